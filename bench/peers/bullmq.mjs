// BullMQ as a peer: eight workers and 32 creators, like the hub's. Each line on stdin is answered with a line of JSON:
// "sustained N": the seconds from the first creation until the last completion; "idle N": N times to a worker's start.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const [installed, socket] = process.argv.slice(2)
const { Queue, Worker } = createRequire(`${installed}/`)('bullmq')
const WORKERS = 8, SLOTS = 8, CREATORS = 32
const connection = { path: socket, maxRetriesPerRequest: null }
const queue = new Queue('noop', { connection })
let onStart = () => {}
let onEnd = () => {}

for (let number = 0; number < WORKERS; number++) {
  const worker = new Worker('noop', async () => onStart(), { connection, concurrency: SLOTS })
  worker.on('completed', () => onEnd())
  await worker.waitUntilReady()
}

async function sustained(tasks) {
  let left = tasks, toCreate = tasks
  const began = performance.now()
  const done = new Promise(resolve => { onEnd = () => { if (--left === 0) resolve() } })
  const create = async () => { while (toCreate-- > 0) await queue.add('noop', { video: 'x'.repeat(36) }) }
  await Promise.all([done, ...Array.from({ length: CREATORS }, create)])
  onEnd = () => {}
  return (performance.now() - began) / 1000
}

async function idle(tasks) {
  const took = []
  while (took.length < tasks) {
    const began = performance.now()
    const done = new Promise(resolve => { onEnd = resolve })
    onStart = () => { took.push((performance.now() - began) / 1000) }
    await Promise.all([done, queue.add('noop', { video: 'x'.repeat(36) })])
  }
  onStart = onEnd = () => {}
  return took
}

for await (const line of createInterface({ input: process.stdin })) {
  const [what, tasks] = line.split(' ')
  console.log(JSON.stringify(await (what === 'idle' ? idle : sustained)(Number(tasks))))
}
process.exit(0)
