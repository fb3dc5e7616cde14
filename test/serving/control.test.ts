/** The control socket of a node: results, progress and refusals; and which sockets it replaces. */
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { InputError, PolicyError } from '../../src/lib/errors.ts'
import { type Control, callControl, isRunning, startControl } from '../../src/serving/control.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { socketOfEndedProcess } from '../support/stale-socket.ts'

let path: string
const open: (Control | Server)[] = []

beforeEach(async () => {
  path = join(await folder(), 'socket')
})

afterEach(async () => {
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
      break: async function* () {
        throw new TypeError('undefined is not a function')
      },
    },
    new Log((entry) => entries.push(entry)),
  )
  open.push(control)
  return entries
}

const call = (command: string, args: unknown = {}): Promise<unknown> =>
  callControl(path, command, args, { signal: new AbortController().signal })

describe('a command to a running node', () => {
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
        scope: 'node',
        message: 'the command "break" failed: undefined is not a function',
      },
    ])
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
