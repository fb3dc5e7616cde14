/** The control socket of a node: results, progress and refusals; and which sockets it replaces. */
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import '../../src/lib/node20.ts'
import { InputError, PolicyError } from '../../src/lib/errors.ts'
import { type Control, startControl } from '../../src/serving/control.ts'
import { callControl, isRunning } from '../../src/serving/control-client.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { socketOfEndedProcess } from '../support/stale-socket.ts'

let path: string
const open: (Control | Server)[] = []

beforeEach(async () => {
  path = join(await folder(), 'socket')
})

afterEach(async () => {
  vi.useRealTimers()
  for (const one of open.splice(0)) await one.close()
  await cleanUp()
})

/** @returns the log of the control socket, as it grows. */
async function start(): Promise<readonly LogEntry[]> {
  const entries: LogEntry[] = []
  const control = await startControl(
    path,
    {
      echo: async function* (args) {
        yield { done: 0 }
        return { args }
      },
      refuse: async function* () {
        throw new InputError('usage', 'publish: expected a name')
      },
      judge: async function* () {
        throw new PolicyError('norm-bound', 'too large')
      },
      'key show': async function* () {
        return { isShown: true }
      },
      break: async function* () {
        throw new TypeError('undefined is not a function')
      },
    },
    { log: new Log((entry) => entries.push(entry)) },
  )
  open.push(control)
  return entries
}

const call = (command: string, args: unknown = {}): Promise<unknown> =>
  callControl(path, command, args, { signal: new AbortController().signal })

describe('a command to a running node', () => {
  it('may have a name with a space', async () => {
    await start()
    expect(await call('key show')).toEqual({ isShown: true })
  })

  it('has a result, after its progress', async () => {
    await start()
    const progress: unknown[] = []
    const result = await callControl(
      path,
      'echo',
      { name: 'law' },
      { signal: new AbortController().signal, onProgress: (event) => progress.push(event) },
    )
    expect(progress).toEqual([{ done: 0 }])
    expect(result).toEqual({ args: { name: 'law' } })
  })

  it('has a connection of its own, since the node closes idle ones before a busy caller notices', async () => {
    const server = createHttpServer(({ headers }, outgoing) => {
      outgoing.end(`${JSON.stringify({ result: headers.connection })}\n`)
    }).listen(path)
    open.push(server)
    await once(server, 'listening')
    await expect(call('echo')).resolves.toBe('close')
  })

  it('keeps the code of a refusal of the input, on which the exit code depends', async () => {
    await start()
    await expect(call('refuse')).rejects.toMatchObject({
      family: 'input',
      code: 'usage',
      message: 'publish: expected a name',
    })
    for (const unknown of ['no-such-command', 'constructor'])
      await expect(call(unknown)).rejects.toMatchObject({ code: 'usage' })
  })

  it('has code io and names the remote code for an error of another family', async () => {
    await start()
    await expect(call('judge')).rejects.toMatchObject({
      family: 'input',
      code: 'io',
      message: 'too large',
      fields: { remote: 'norm-bound' },
    })
  })

  it('leaves a log line if it fails unexpectedly, and none if it is refused', async () => {
    const entries = await start()
    await expect(call('refuse')).rejects.toThrow()
    await expect(call('break')).rejects.toMatchObject({ code: 'io', fields: { remote: 'internal' } })
    expect(entries).toEqual([
      {
        level: 'error',
        part: 'node',
        message: 'the command "break" failed: undefined is not a function',
      },
    ])
  })
})

describe('a command that is interrupted', () => {
  it('ends with its own error, which the client gets', async () => {
    const interrupted = Promise.withResolvers<void>()
    open.push(
      await startControl(path, {
        train: async function* (_, signal) {
          yield { step: 109 }
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
          interrupted.resolve()
          throw new InputError('interrupted', 'stopped at step 109')
        },
      }),
    )
    const abort = new AbortController()
    const result = callControl(path, 'train', {}, { signal: abort.signal, onProgress: () => abort.abort() })
    await expect(result).rejects.toMatchObject({ code: 'interrupted', message: 'stopped at step 109' })
    await interrupted.promise
  })

  it('is interrupted too when its client has gone', async () => {
    const gone = Promise.withResolvers<void>()
    open.push(
      await startControl(path, {
        train: async function* (_, signal) {
          signal.addEventListener('abort', () => gone.resolve())
          yield {}
          await gone.promise
          return {}
        },
      }),
    )
    const client = connect(path)
    client.write('POST /train HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\n\r\n')
    await once(client, 'data')
    client.destroy()
    await gone.promise
  })

  it('says how it ended when the node stops', async () => {
    const begun = Promise.withResolvers<void>()
    const control = await startControl(path, {
      train: async function* (_, signal) {
        yield {}
        begun.resolve()
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        throw new InputError('interrupted', 'stopped at step 5')
      },
    })
    const result = call('train')
    result.catch(() => undefined)
    await begun.promise
    await control.close()
    await expect(result).rejects.toThrow('stopped at step 5')
  })

  it('says that the node has ended if the connection breaks, and what to do', async () => {
    const breaking = createServer((socket) => {
      socket.once('data', () => socket.destroy())
    }).listen(path)
    await once(breaking, 'listening')
    open.push(breaking)
    await expect(call('train')).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringMatching(/^the node ended before it had answered "train"; start it again/),
    })
  })
})

describe('a client that waits', () => {
  it('is told what the node computes while its command has no news', async () => {
    vi.useFakeTimers({ toFake: ['setInterval'] })
    const end = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const activity = (): string[] => ['judging man of C, 40 %']
    const publish = async function* (): AsyncGenerator<never, object, void> {
      begun.resolve()
      await end.promise
      return {}
    }
    open.push(await startControl(path, { publish }, { activity }))
    const told = Promise.withResolvers<readonly string[]>()
    const signal = new AbortController().signal
    const onQuiet = (now: readonly string[]): void => {
      if (now.length > 0) told.resolve(now)
    }
    const result = callControl(path, 'publish', {}, { signal, onQuiet })
    await begun.promise
    await vi.advanceTimersByTimeAsync(5_000)
    expect(await told.promise).toEqual(['judging man of C, 40 %'])
    end.resolve()
    await result
  })

  it('is told that a node is busy which does not answer at all', async () => {
    vi.useFakeTimers({ toFake: ['setInterval'] })
    const silent = createServer(() => undefined).listen(path)
    await once(silent, 'listening')
    open.push(silent)
    const told = Promise.withResolvers<readonly string[]>()
    const signal = new AbortController().signal
    expect(await isRunning(path)).toBe(true)
    const result = callControl(path, 'members', {}, { signal, onQuiet: (now) => told.resolve(now) })
    result.catch(() => undefined)
    await vi.advanceTimersByTimeAsync(5_000)
    expect(await told.promise).toEqual([])
  })
})

describe('a control socket', () => {
  it('can be opened by its owner only, and is gone after the node has stopped', async () => {
    await start()
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await isRunning(path)).toBe(true)
    for (const one of open.splice(0)) await one.close()
    expect(await isRunning(path)).toBe(false)
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('replaces the socket of a process that has ended', async () => {
    await socketOfEndedProcess(path)
    expect((await stat(path)).isSocket()).toBe(true)
    await start()
    expect(await call('echo')).toEqual({ args: {} })
  })

  it('is not taken from a node that answers on it', async () => {
    await start()
    await expect(start()).rejects.toMatchObject({ family: 'input', code: 'home-in-use' })
    expect(await call('echo')).toEqual({ args: {} })
  })

  it('is not taken from a process that accepts connections but is too busy to answer', async () => {
    const silent = createServer(() => undefined).listen(path)
    await once(silent, 'listening')
    open.push(silent)
    await expect(start()).rejects.toMatchObject({ code: 'home-in-use' })
    expect((await stat(path)).isSocket()).toBe(true)
  })

  it('does not replace a file that is not a socket', async () => {
    await writeFile(path, 'notes')
    await expect(start()).rejects.toMatchObject({ code: 'exists' })
    expect(await readFile(path, 'utf8')).toBe('notes')
  })
})
