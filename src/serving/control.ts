/**
 * The command line's access to a running node on the same machine: HTTP over a Unix socket that only its owner may
 * open, with one JSON event per line. Knows nothing about the commands.
 */
import { chmod, lstat, rm } from 'node:fs/promises'
import { createServer, request as httpRequest, type Server } from 'node:http'
import { connect } from 'node:net'
import { ExchangeError, FlexMeshError, hasErrno, INPUT_CODES, InputError } from '../lib/errors.ts'
import { mapDiskErrors, PRIVATE_FILE_MODE } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { type Log, SILENT } from '../telemetry/log.ts'

/** Answers a command: yields progress, and returns the result. */
export type ControlHandler = (args: unknown, signal: AbortSignal) => AsyncGenerator<unknown, unknown, void>

export interface Control {
  close(): Promise<void>
}

/** Longest time that `isRunning` waits for an answer, ms. */
const PING_MS = 2_000

/**
 * Serve `handlers` on a socket. Replaces the socket of a process that has ended.
 * @param log receives unexpected errors
 * @throws InputError `home-in-use` if another process answers on the socket, `exists` if the file is not a socket.
 */
export async function startControl(
  path: string,
  handlers: Readonly<Record<string, ControlHandler>>,
  log: Log = SILENT,
): Promise<Control> {
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
      const command = (incoming.url ?? '/').slice(1)
      const handler = Object.hasOwn(handlers, command) ? handlers[command] : undefined
      answer(handler, Buffer.concat(chunks).toString(), abort.signal, write)
        .catch((error: unknown) => {
          if (!(error instanceof FlexMeshError) && !abort.signal.aborted)
            log.error(`the command "${command}" failed`, error)
          write({ error: describe(error) })
        })
        .finally(() => outgoing.end())
    })
  })
  await listen(server, path).catch(async (error: unknown) => {
    if (!hasErrno(error, 'EADDRINUSE')) throw error
    await removeStaleSocket(path)
    await listen(server, path)
  })
  server.on('error', (error) => log.warn('the control socket cannot accept a connection', error))
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
  const steps = handler(JSON.parse(body === '' ? '{}' : body), signal)
  for (;;) {
    const { done, value } = await steps.next()
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
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** @throws InputError `home-in-use`, `exists`. */
async function removeStaleSocket(path: string): Promise<void> {
  if (!(await mapDiskErrors(path, () => lstat(path))).isSocket())
    throw new InputError('exists', `${path} is not a socket of flexmesh; move the file elsewhere`)
  if (await isListening(path)) {
    throw new InputError(
      'home-in-use',
      `another flexmesh process answers on ${path}; stop it or choose another --home`,
    )
  }
  await rm(path, { force: true })
}

/**
 * Whether a process listens on a socket. Connecting is enough: the system accepts connections for a process that is
 * too busy to answer, and refuses them when the process has ended.
 */
function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // Any other error, such as missing permission, does not show that nobody listens.
    socket.once('error', (error) => resolve(!hasErrno(error, 'ECONNREFUSED', 'ENOENT')))
  })
}

/** Whether a node answers on the socket. */
export async function isRunning(path: string): Promise<boolean> {
  try {
    await callControl(path, 'ping', {}, { signal: AbortSignal.timeout(PING_MS) })
    return true
  } catch (error) {
    // A node that refuses the command is running; only `unreachable` means that none is.
    return error instanceof FlexMeshError && error.family !== 'exchange'
  }
}

/** The error of a node as an error of the command line. Errors that are not about the user's input become `io`. */
function refusalOf({ code, message }: { code: string; message: string }): InputError {
  const known = INPUT_CODES.find((one) => one === code)
  return new InputError(known ?? 'io', message, { remote: code })
}

/**
 * Run a command in the running node.
 * @throws ExchangeError `unreachable`; InputError with the message of the node.
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
