/**
 * The command line's door to a running node on the same machine: HTTP over a unix socket that only
 * its owner may open, one JSON event a line. Knows no command.
 */
import { chmod, rm } from 'node:fs/promises'
import { createServer, request as httpRequest, type Server } from 'node:http'
import { ExchangeError, FlexMeshError, INPUT_CODES, InputError } from '../lib/errors.ts'
import { PRIVATE_FILE_MODE } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'

/** Answers a command; yields progress and returns the result. */
export type ControlHandler = (args: unknown, signal: AbortSignal) => AsyncGenerator<unknown, unknown, void>

export interface Control {
  close(): Promise<void>
}

/** Serve `handlers` on a socket; a stale one, which nobody answers, is replaced. */
export async function startControl(
  path: string,
  handlers: Readonly<Record<string, ControlHandler>>,
): Promise<Control> {
  await rm(path, { force: true })
  const server = createServer({ requestTimeout: 0 }, (incoming, outgoing) => {
    const chunks: Buffer[] = []
    let size = 0
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > limit('bodyBytes')) incoming.destroy()
      else chunks.push(chunk)
    })
    incoming.on('end', () => {
      const abort = new AbortController()
      outgoing.on('close', () => abort.abort())
      const write = (event: unknown): void => {
        outgoing.write(`${JSON.stringify(event)}\n`)
      }
      const name = (incoming.url ?? '/').slice(1)
      answer(handlers[name], Buffer.concat(chunks).toString(), abort.signal, write)
        .catch((error: unknown) => write({ error: describe(error) }))
        .finally(() => outgoing.end())
    })
  })
  await listen(server, path)
  await chmod(path, PRIVATE_FILE_MODE)
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function answer(
  handler: ControlHandler | undefined,
  body: string,
  signal: AbortSignal,
  write: (event: unknown) => void,
): Promise<void> {
  if (handler === undefined) throw new InputError('usage', 'the running node does not know this command')
  const run = handler(JSON.parse(body === '' ? '{}' : body), signal)
  for (;;) {
    const { done, value } = await run.next()
    if (done === true) {
      write({ result: value ?? {} })
      return
    }
    write({ progress: value })
  }
}

function describe(error: unknown): { family: string; code: string; message: string } {
  if (error instanceof FlexMeshError)
    return { family: error.family, code: error.code, message: error.message }
  return {
    family: 'internal',
    code: 'internal',
    message: error instanceof Error ? error.message : String(error),
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
}

/** Whether a node answers on the socket. */
export async function isRunning(path: string): Promise<boolean> {
  try {
    await callControl(path, 'ping', {}, { signal: AbortSignal.timeout(2_000) })
    return true
  } catch (error) {
    return error instanceof FlexMeshError && error.family !== 'exchange'
  }
}

/** What a node refuses the user for keeps its code; what happened to it while it worked is `io`. */
function refusalOf({ code, message }: { code: string; message: string }): InputError {
  const known = INPUT_CODES.find((one) => one === code)
  return new InputError(known ?? 'io', message, { remote: code })
}

/**
 * Run a command in the running node.
 * @throws ExchangeError `unreachable`; InputError with what the node says.
 */
export function callControl(
  path: string,
  command: string,
  args: unknown,
  options: { signal: AbortSignal; onProgress?: (progress: unknown) => void },
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const unreachable = (error: unknown): void =>
      reject(new ExchangeError('unreachable', `no node answers on ${path}`, {}, error))
    const call = httpRequest(
      { socketPath: path, path: `/${command}`, method: 'POST', signal: options.signal },
      (incoming) => {
        let rest = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (text: string) => {
          const lines = (rest + text).split('\n')
          rest = lines.pop() ?? ''
          for (const line of lines) {
            const event = JSON.parse(line) as {
              progress?: unknown
              result?: unknown
              error?: { code: string; message: string }
            }
            if (event.error !== undefined) reject(refusalOf(event.error))
            else if ('result' in event) resolve(event.result)
            else options.onProgress?.(event.progress)
          }
        })
        incoming.on('end', () => unreachable(undefined))
        incoming.on('error', unreachable)
      },
    )
    call.on('error', unreachable)
    call.end(JSON.stringify(args))
  })
}
