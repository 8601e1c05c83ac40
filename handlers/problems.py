"""The one table from an error's code to its HTTP status and its words, and the body that carries them (RFC 9457)."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.errors import (
    Conflict, Forbidden, HubError, Invalid, MediaRefused, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    Unsupported,
)

CONTENT_TYPE = "application/problem+json"
KIND_STATUS: tuple[tuple[type[HubError], int], ...] = (
    (Invalid, 422), (Unauthorized, 401), (Forbidden, 403), (NotFound, 404), (Conflict, 409), (TooLarge, 413),
    (Unsupported, 415), (RateLimited, 429), (MediaRefused, 422), (Unavailable, 503),
)
CODE_STATUS = {
    "bad_json": 400, "bad_query": 400, "bad_request": 400, "bad_multipart": 400, "bad_metadata": 400, "bad_length": 400,
    "method_not_allowed": 405, "bad_host": 421, "disk_full": 507, "headers_too_large": 431, "unsatisfiable_range": 416,
    "bad_offset": 400, "bad_checksum": 400, "upload_gone": 410, "checksum_mismatch": 460, "tus_version": 412,
    "precondition_failed": 412, "upgrade_required": 426, "session_gone": 409,
}
REASONS = {460: "Checksum Mismatch"}  # those that no RFC has (tus 1.0.0, checksum)
WORDS: dict[str, tuple[str, str]] = {  # code -> (English, Chinese): a sentence each, for people
    "invalid": ("The request has fields that are not valid", "请求中有无效的字段"),
    "bad_json": ("The body is not valid JSON", "请求体不是有效的 JSON"),
    "bad_query": ("The query string is not valid", "查询参数无效"),
    "bad_request": ("The request is not valid", "请求无效"),
    "bad_multipart": ("The form data cannot be read", "无法读取表单数据"),
    "bad_metadata": ("The upload's metadata cannot be read", "无法读取上传的元数据"),
    "bad_length": ("The length of the upload is missing or wrong", "上传长度缺失或错误"),
    "bad_offset": ("The offset of the upload is missing or wrong", "上传偏移量缺失或错误"),
    "bad_checksum": ("The checksum cannot be read", "无法读取校验和"),
    "checksum_mismatch": ("The bytes arrived damaged, send them again", "数据在传输中损坏，请重新发送"),
    "offset_mismatch": ("The upload goes on at another offset", "上传偏移量不一致"),
    "upload_resumed": ("Another request goes on with this upload", "该上传已由另一个请求继续"),
    "upload_finished": ("All bytes of this upload are here", "该上传已完成"),
    "upload_gone": ("This upload was deleted or has expired", "该上传已被删除或已过期"),
    "parts_unfinished": ("A part of this upload is not finished", "分片上传尚未完成"),
    "too_many_uploads": ("Too many of your uploads are not finished", "未完成的上传过多"),
    "quota": ("This is more than you may have", "超出您的存储配额"),
    "unauthorized": ("Please sign in", "请先登录"),
    "bad_credentials": ("E-mail or password is wrong", "邮箱或密码错误"),
    "forbidden": ("This is not allowed", "没有权限"),
    "account_disabled": ("An admin has disabled this account", "管理员已停用该账号"),
    "link_expired": ("This link has expired", "链接已过期"),
    "link_invalid": ("This link is not valid", "链接无效"),
    "job_token_invalid": ("This job token is not valid", "任务令牌无效"),
    "headers_too_large": ("The headers are too long", "请求头过长"),
    "not_found": ("There is no such thing here", "未找到"),
    "conflict": ("Something else has changed this meanwhile", "内容已被其他操作更改"),
    "taken": ("This e-mail address is already registered", "该邮箱已被注册"),
    "name_taken": ("There is an interface service of this name or address already", "已有同名或同地址的接口服务"),
    "last_admin": ("There would be no admin left", "至少需要保留一名管理员"),
    "bad_url": ("The hub does not call this address", "不允许访问该地址"),
    "in_use": ("A task still needs this", "仍有任务在使用"),
    "model_offered": ("A service offers this model", "仍有服务提供此模型"),
    "running": ("The same request is still running", "相同的请求仍在处理中"),
    "key_reused": ("This Idempotency-Key was used for another request", "该 Idempotency-Key 已用于其他请求"),
    "lease_lost": ("This lease is over", "租约已失效"),
    "session_gone": ("This session is gone, say hello again", "会话已失效，请重新发送 hello"),
    "unsupported_protocol": ("This hub speaks another version of the worker protocol", "不支持的接口服务协议版本"),
    "task_waiting": ("The task is waiting", "任务正在等待"),
    "task_processing": ("The task is being worked on", "任务正在处理"),
    "task_completed": ("The task is already completed", "任务已完成"),
    "task_failed": ("The task has already failed", "任务已失败"),
    "task_cancelled": ("The task is already cancelled", "任务已取消"),
    "unknown_model": ("No interface service offers this model", "没有接口服务提供该模型"),
    "does_not_fit": ("This model does not take so large a video", "视频超出该模型的处理范围"),
    "not_ready": ("The file is still being checked", "文件仍在检查中"),
    "too_large": ("This is too large", "内容过大"),
    "disk_full": ("The hub's disk is full", "服务器磁盘已满"),
    "unsupported_media_type": ("This content type is not taken here", "不支持的内容类型"),
    "rate_limited": ("Too many tries, come back later", "尝试次数过多，请稍后再试"),
    "unavailable": ("The hub cannot answer right now, try again soon", "服务暂时不可用，请稍后重试"),
    "empty_file": ("The file is empty", "文件为空"),
    "not_video": ("This is not a video that the hub can read", "无法识别的视频文件"),
    "not_picture": ("This is not a picture that the hub can read", "无法识别的图片文件"),
    "truncated": ("The file is cut off", "文件不完整"),
    "too_many_pixels": ("The picture is too large", "画面尺寸过大"),
    "no_video_stream": ("There is no picture in this file", "文件中没有视频画面"),
    "unsupported_format": ("This format is not supported", "不支持的文件格式"),
    "animated": ("Animated pictures are not supported", "不支持动态图片"),
    "heic": ("HEIC pictures are not supported", "不支持 HEIC 图片"),
    "svg": ("SVG drawings are not supported", "不支持 SVG 图形"),
    "no_frames": ("The video has no pictures", "视频中没有任何画面"),
    "too_many_frames": ("The video has too many pictures", "视频帧数过多"),
    "probe_timeout": ("Checking the file took too long", "文件检查超时"),
    "probe_crashed": ("The file could not be checked", "文件检查失败"),
    "probe_memory": ("Checking the file took too much memory", "文件检查占用内存过多"),
    "password_too_short": ("The password is too short", "密码太短"),
    "password_too_long": ("The password is too long", "密码太长"),
    "method_not_allowed": ("This method is not allowed here", "不支持该请求方法"),
    "bad_host": ("This hub does not answer to that host name", "无效的主机名"),
    "unsatisfiable_range": ("The file has no such range", "请求的范围无效"),
    "precondition_failed": ("The file is another one than you have", "文件与您持有的版本不同"),
    "tus_version": ("This tus version is not supported", "不支持的 tus 版本"),
    "upgrade_required": ("A websocket is expected here", "此处需要 WebSocket 连接"),
    "internal": ("Something went wrong in the hub", "服务器内部错误"),
}


def status_of(error: HubError) -> int:
    """The HTTP status of an error."""
    if error.code in CODE_STATUS:
        return CODE_STATUS[error.code]
    return next((status for kind, status in KIND_STATUS if isinstance(error, kind)), 500)


def speaks_chinese(accept_language: str) -> bool:
    """Whether Accept-Language (RFC 9110 section 12.5.4) prefers Chinese to English."""
    weights = {"zh": 0.0, "en": 0.0}
    for part in accept_language.lower().split(",")[:20]:
        tag, _, parameters = part.strip().partition(";")
        quality = parameters.strip().removeprefix("q=") or "1"
        language = tag.strip().split("-")[0]
        if language in weights and quality.replace(".", "", 1).isascii() and quality.replace(".", "", 1).isdigit():
            weights[language] = max(weights[language], min(1.0, float(quality)))
    return weights["zh"] > weights["en"]


def detail(code: str, said: str, chinese: bool) -> str:
    """What went wrong in a sentence for the reader: the hub's own, or in Chinese the one for its code."""
    english, translated = WORDS.get(code, (code.replace("_", " ").capitalize(), said))
    return (translated if chinese else said) or english


def problem(error: HubError, instance: str, request_id: str, chinese: bool) -> dict[str, Any]:
    """The body of an error answer: stable `code`, words in the reader's language."""
    english, translated = WORDS.get(error.code, (error.code.replace("_", " ").capitalize(), error.code))
    body: dict[str, Any] = {
        "type": f"urn:vsh:problem:{error.code}",
        "title": translated if chinese else english,
        "status": status_of(error),
        "detail": detail(error.code, error.detail, chinese),
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
    }
    if error.fields:
        body["errors"] = [msgspec.to_builtins(field) for field in error.fields]
    return body
