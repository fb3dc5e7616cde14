/**
 * The control socket of a running node: HTTP over a Unix socket that only its owner may open, with one JSON event per
 * line. `control-client.ts` is the other side. Knows nothing about the commands.
 *
 * A request may name itself in the header `CALL_HEADER`; a second request `/cancel` with that name interrupts it, and
 * the first one then still gets the result or the error with which its command ended.
 */
import { chmod, lstat, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import { FlexMeshError, hasErrno, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { mapDiskErrors, PRIVATE_FILE_MODE } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { type Log, SILENT } from '../telemetry/log.ts'
import { CALL_HEADER, CANCEL, isRunning } from './control-client.ts'

/** Answers a command: yields progress, and returns the result. */
export type ControlHandler = (args: unknown, signal: AbortSignal) => AsyncGenerator<unknown, unknown, void>

export interface Control {
  close(): Promise<void>
}

const MAX_CALL_NAME = 64
/** Time after which a command without news tells its client what the node computes meanwhile, ms. */
const QUIET_MS = 5_000
/** Time that commands have to end after the node has begun to stop, ms: a training writes its checkpoint. */
const GRACE_MS = 60_000

export interface ControlOptions {
  /** What the node computes now, for clients that wait; default: nothing. */
  readonly activity?: () => readonly string[]
  /** Receives unexpected errors. */
  readonly log?: Log
}

/** The event of a node that stops, as the reason of the signal of every command. */
export const STOPPED = new InputError('interrupted', 'the node was stopped')

/**
 * Serve `handlers` on a socket. Replaces the socket of a process that has ended.
 * @throws InputError `home-in-use` if another process answers on the socket, `exists` if the file is not a socket.
 */
export async function startControl(
  path: string,
  handlers: Readonly<Record<string, ControlHandler>>,
  { activity = () => [], log = SILENT }: ControlOptions = {},
): Promise<Control> {
  /** Commands that run, by the name of the request or, without one, by a symbol. */
  const calls = new Map<string | symbol, AbortController>()
  const running = new Set<Promise<void>>()
  const server = createServer({ requestTimeout: 0 }, (incoming, outgoing) => {
    const chunks: Buffer[] = []
    let size = 0
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > limit('bodyBytes')) incoming.destroy()
      else chunks.push(chunk)
    })
    incoming.on('end', () => {
      const call = serve(incoming, outgoing, Buffer.concat(chunks).toString())
      running.add(call)
      void call.finally(() => running.delete(call))
    })
  })

  async function serve(incoming: IncomingMessage, outgoing: ServerResponse, body: string): Promise<void> {
    const abort = new AbortController()
    outgoing.on('close', () => abort.abort())
    const header = incoming.headers[CALL_HEADER]
    const name = typeof header === 'string' ? header : Symbol('unnamed')
    calls.set(name, abort)
    let isQuiet = true
    const write = (event: unknown): void => {
      isQuiet = false
      outgoing.write(`${JSON.stringify(event)}\n`)
    }
    // The client knows from the headers that the node is alive.
    outgoing.flushHeaders()
    const news = setInterval(() => {
      if (isQuiet) outgoing.write(`${JSON.stringify({ activity: activity() })}\n`)
      isQuiet = true
    }, QUIET_MS)
    news.unref()
    const command = commandOf(incoming)
    try {
      if (command === CANCEL) write({ result: cancel(body) })
      else {
        const handler = Object.hasOwn(handlers, command) ? handlers[command] : undefined
        await answer(handler, body, abort.signal, write)
      }
    } catch (error) {
      if (!(error instanceof FlexMeshError) && !abort.signal.aborted)
        log.error(`the command "${command}" failed`, error)
      write({ error: describe(error) })
    } finally {
      log.trace(`the command "${command}" has ended`)
      clearInterval(news)
      calls.delete(name)
      outgoing.end()
    }
  }

  /** @throws FormatError `bad-field`. */
  function cancel(body: string): { cancelled: boolean } {
    const call = calls.get(new Fields(JSON.parse(body), CANCEL).text('call', MAX_CALL_NAME))
    call?.abort(new InputError('interrupted', 'the command was interrupted'))
    return { cancelled: call !== undefined }
  }

  await listen(server, path).catch(async (error: unknown) => {
    if (!hasErrno(error, 'EADDRINUSE')) throw error
    await removeStaleSocket(path)
    await listen(server, path)
  })
  server.on('error', (error) => log.warn('the control socket cannot accept a connection', error))
  await chmod(path, PRIVATE_FILE_MODE)
  return {
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const call of calls.values()) call.abort(STOPPED)
      // Each client learns how its command ended.
      await Promise.race([Promise.all(running), setTimeout(GRACE_MS, undefined, { ref: false })])
      server.closeAllConnections()
      await closed
    },
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

/** Name of the command that a request asks for; names such as `audit export` have a space. */
function commandOf({ url = '/' }: IncomingMessage): string {
  try {
    return decodeURIComponent(url.slice(1))
  } catch {
    return url.slice(1) // No command has such a name.
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
  if (await isRunning(path)) {
    throw new InputError(
      'home-in-use',
      `a node of another process listens on ${path}; stop it or choose another --home`,
    )
  }
  await rm(path, { force: true })
}
