/** One log line for each request to the API: who asked which route, and the size of the answer, never its content. */
import type { Log } from '../telemetry/log.ts'
import type { Sent } from './server.ts'

/** Characters of a path that a line shows; a client may send anything as a path. */
const MAX_PATH = 120

/** Requests with an API key are `info`; those of the dashboard and of probes, which repeat all the time, are `debug`. */
export function logRequest(log: Log, sent: Sent): void {
  const { requestId, to, method, path, status, milliseconds, tokens, bytes } = sent
  const line = `${method} ${path.slice(0, MAX_PATH)}: ${status} to ${to} after ${milliseconds} ms, ${tokens} tokens, ${bytes} bytes`
  const ofRequest = requestId === undefined ? log : log.request(requestId)
  if (to.startsWith('API key')) ofRequest.info(line)
  else ofRequest.debug(line)
}
