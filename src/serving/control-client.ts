/**
 * The command line's side of the control socket of a running node; `control.ts` is the other side. Knows nothing about
 * the commands.
 */

import { randomUUID } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { ownCommand } from '../lib/command-line.ts'
import { ExchangeError, hasErrno, INPUT_CODES, InputError } from '../lib/errors.ts'

/** Command that interrupts another one. */
export const CANCEL = 'cancel'
/** Header with the name of a request, chosen by the client. */
export const CALL_HEADER = 'x-flexmesh-call'
/** Time without an answer after which the caller is told that the node is busy, ms. */
const SILENT_MS = 5_000

export interface CallOptions {
  /** Interrupts the command; the call still ends with the result or the error of the command. */
  readonly signal: AbortSignal
  readonly onProgress?: (progress: unknown) => void
  /** Called every few seconds while there is no news, with what the node computes; empty if it does not answer. */
  readonly onQuiet?: (activity: readonly string[]) => void
}

/**
 * Whether a process listens on the socket. Connecting is enough: the system accepts connections for a process that is
 * too busy to answer, and refuses them when the process has ended.
 */
export function isRunning(path: string): Promise<boolean> {
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

/**
 * Run a command in the running node.
 * @throws InputError with the message of the node; `permissions` if the socket belongs to somebody else; ExchangeError
 * `unreachable` if no node runs, or if it ended before the command did.
 */
export async function callControl(
  path: string,
  command: string,
  args: unknown,
  { signal, onProgress, onQuiet }: CallOptions,
): Promise<unknown> {
  signal.throwIfAborted()
  const call = randomUUID()
  const interrupt = (): void => {
    // If the node cannot be told, it has ended, and the call ends with that.
    post(path, CANCEL, { call }, {}).catch(() => undefined)
  }
  signal.addEventListener('abort', interrupt, { once: true })
  let isSilent = true
  const silence = setInterval(() => {
    if (isSilent) onQuiet?.([])
  }, SILENT_MS)
  try {
    return await post(
      path,
      command,
      args,
      { [CALL_HEADER]: call },
      {
        onResponse: () => {
          isSilent = false
        },
        ...(onProgress === undefined ? {} : { onProgress }),
        ...(onQuiet === undefined ? {} : { onActivity: onQuiet }),
      },
    )
  } finally {
    clearInterval(silence)
    signal.removeEventListener('abort', interrupt)
  }
}

interface Listeners {
  readonly onResponse?: () => void
  readonly onProgress?: (progress: unknown) => void
  readonly onActivity?: (activity: readonly string[]) => void
}

function post(
  path: string,
  command: string,
  args: unknown,
  headers: Record<string, string>,
  { onResponse, onProgress, onActivity }: Listeners = {},
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const failed = (error: unknown): void => reject(connectionError(path, error))
    const ended = (error?: unknown): void =>
      reject(
        new ExchangeError(
          'unreachable',
          `the node ended before it had answered "${command}"; start it again with ${ownCommand('start')}, then run the same command`,
          {},
          error,
        ),
      )
    const call = httpRequest(
      // One connection for each call: the node closes idle ones, and a busy caller would notice that too late.
      { socketPath: path, path: `/${encodeURIComponent(command)}`, method: 'POST', headers, agent: false },
      (incoming) => {
        onResponse?.()
        let rest = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (text: string) => {
          const lines = (rest + text).split('\n')
          rest = lines.pop() ?? ''
          for (const line of lines) {
            const event = JSON.parse(line) as {
              progress?: unknown
              activity?: string[]
              result?: unknown
              error?: { code: string; message: string }
            }
            if (event.error !== undefined) reject(refusalOf(event.error))
            else if ('result' in event) resolve(event.result)
            else if (event.activity !== undefined) onActivity?.(event.activity)
            else onProgress?.(event.progress)
          }
        })
        incoming.on('end', () => ended())
        incoming.on('error', ended)
      },
    )
    call.on('error', (error) => (hasErrno(error, 'ECONNRESET', 'EPIPE') ? ended(error) : failed(error)))
    call.end(JSON.stringify(args))
  })
}

function connectionError(path: string, error: unknown): ExchangeError | InputError {
  if (hasErrno(error, 'EACCES', 'EPERM')) {
    return new InputError(
      'permissions',
      `the node that listens on ${path} belongs to another user; run this command as that user`,
      {},
      error,
    )
  }
  return new ExchangeError('unreachable', `no node answers on ${path}`, {}, error)
}

/** The error of a node as an error of the command line. Errors that are not about the user's input become `io`. */
function refusalOf({ code, message }: { code: string; message: string }): InputError {
  const known = INPUT_CODES.find((one) => one === code)
  return new InputError(known ?? 'io', message, { remote: code })
}
