/** What only real processes show: exit codes, signals, two processes on one home, a kill, a full disk. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, watch } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { founded, trained } from '../support/command-homes.ts'
import { type Ended, flexmesh, fromSource, kill, line, outcome, spawned } from '../support/command-line.ts'
import { cleanUp, EXAMPLES, folder } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'

afterAll(cleanUp)

/** Resolves once the paths in a folder, at any depth, meet a condition. */
async function until(
  dir: string,
  condition: (paths: readonly string[]) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const changes = watch(dir, { recursive: true, signal })
  const isMet = async (): Promise<boolean> => condition(await readdir(dir, { recursive: true }))
  if (await isMet()) return
  for await (const _ of changes) if (await isMet()) return
}

/** Kill a process once the paths in a folder meet a condition, unless it ends before. */
async function killWhen(
  child: ChildProcess,
  dir: string,
  condition: (paths: readonly string[]) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const ended = once(child, 'exit').then(() => undefined)
  await Promise.race([until(dir, condition, signal), ended])
  await kill(child)
}

describe('a process', () => {
  it.each([
    ['help', ['--help'], 0],
    ['wrong usage', ['fly'], 2],
    ['a refusal', ['experts', '--home', '/no/such/home'], 1],
  ])('exits after %s with its code', async (_, args, code) => {
    const ended = await outcome(spawned(...args))
    expect(ended.code).toBe(code)
    expect(ended.stderr).toMatch(code === 0 ? /^$/ : /^flexmesh: [^\n]+\n$/)
  })

  it('exits with 130 after a signal during training, which the next run continues', async () => {
    const home = await founded()
    const train = ['train', '--home', home, '--name', 'law', '--data', await shortText('archive')]
    const child = spawned(...train, '--steps', '100000')
    const ended = outcome(child)
    await line(child, 'documents held out')
    child.kill('SIGINT')
    expect(await ended).toMatchObject({
      code: 130,
      stderr: expect.stringMatching(
        /^flexmesh: the training law was stopped [^;\n]+; run the same command to continue it\n$/,
      ),
    })
    expect((await flexmesh(...train, '--steps', '1')).code).toBe(0)
  })

  it('whose reader has gone away ends as after a signal', async () => {
    const home = await founded()
    const child = spawn(process.execPath, [...fromSource, 'start', '--port', '0', '--home', home], {
      stdio: 'pipe',
    })
    child.stdout.destroy()
    let errors = ''
    child.stderr.on('data', (data: Buffer) => {
      errors += data.toString()
    })
    const [code] = await once(child, 'close')
    expect([code, errors]).toEqual([0, expect.not.stringContaining('EPIPE')])
  })

  it('that runs a node answers the commands of others, and exits with 0 after a signal', async () => {
    const home = await founded()
    const node = spawned('start', '--home', home, '--port', '0')
    const ended = outcome(node)
    await line(node, 'is up as')
    const members = await outcome(spawned('members', '--home', home, '--json'))
    expect([members.code, members.stderr]).toEqual([0, ''])
    expect(members.stdout.split('\n')).toEqual([expect.stringMatching(/^\{.*\}$/), ''])
    expect(JSON.parse(members.stdout)).toMatchObject({ consortium: 'Test', members: [{ connected: true }] })
    const second = await flexmesh('start', '--home', home, '--port', '0')
    expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining(home) })
    node.kill('SIGTERM')
    expect(await ended).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('a process that is killed', () => {
  it('while it trains leaves a training that ends as an uninterrupted one, bit for bit', async ({
    signal,
  }) => {
    const data = await shortText('archive')
    const train = ['train', '--name', 'law', '--data', data, '--steps', '150', '--threads', '1', '--home']
    const whole = await founded()
    expect((await flexmesh(...train, whole)).code).toBe(0)
    const cut = await founded()
    for (const moment of [/corpus$/, /checkpoint\.safetensors$/]) {
      const child = spawned(...train, cut)
      await killWhen(child, cut, (paths) => paths.some((path) => moment.test(path)), signal)
    }
    expect((await flexmesh(...train, cut)).code).toBe(0)
    for (const file of ['result.json', 'checkpoint.safetensors', 'expert.safetensors']) {
      const read = (home: string): Promise<Buffer> => readFile(join(home, 'training', 'law', file))
      expect([file, (await read(cut)).equals(await read(whole))]).toEqual([file, true])
    }
  })

  it('while it publishes leaves a home in which the expert can be published once', async ({ signal }) => {
    const home = await trained()
    const blobs = join(home, 'blobs')
    const before = (await readdir(blobs, { recursive: true })).length
    await killWhen(spawned('publish', 'law', '--home', home), blobs, ({ length }) => length > before, signal)
    const experts = async (): Promise<string[]> => {
      const { stdout } = await flexmesh('experts', '--home', home, '--json')
      return (JSON.parse(stdout) as { composed: { name: string }[] }).composed.map(({ name }) => name)
    }
    const published = await experts()
    // The command has opened the home, which removes what nothing needs.
    expect((await readdir(blobs)).filter((name) => name.startsWith('.'))).toEqual([])
    if (published.length === 0) expect((await flexmesh('publish', 'law', '--home', home)).code).toBe(0)
    expect(await experts()).toEqual(['law'])
  })
})

describe('a full disk', () => {
  /** A limit on the size of files, which a user without privileges can set, fails writes as a full disk does. */
  async function cramped(...args: string[]): Promise<Ended> {
    const quoted = [process.execPath, ...fromSource, ...args].map((arg) => `"${arg}"`).join(' ')
    const child = spawn('bash', ['-c', `ulimit -f 64; trap "" XFSZ; exec ${quoted}`], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    return outcome(child)
  }

  it('ends a training with one sentence, and leaves the home usable', async () => {
    const home = await founded()
    const data = join(EXAMPLES, 'archive', 'text') // More tokens than fit into a file.
    const ended = await cramped('train', '--home', home, '--name', 'x', '--data', data)
    expect(ended).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^flexmesh: no space left [^\n]+\n$/),
    })
    expect((await flexmesh('members', '--home', home)).code).toBe(0)
  })

  it('ends a publication with one sentence, and leaves nothing of it', async () => {
    const home = await trained()
    const before = await readdir(join(home, 'blobs'))
    const ended = await cramped('publish', 'law', '--home', home)
    expect(ended).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no space left to write [^\n]+\n$/),
    })
    expect((await readdir(join(home, 'blobs'))).sort()).toEqual(before.sort())
    expect((await flexmesh('publish', 'law', '--home', home)).code).toBe(0)
  })

  it('ends an export with one sentence, and leaves no part of a folder', async () => {
    const home = await founded()
    const parent = await folder()
    const target = join(parent, 'model')
    const ended = await cramped('compose', '--home', home, '--export', target)
    expect(ended).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`no space left to write ${target}`),
    })
    expect(await readdir(parent)).toEqual([])
    const { code, stdout } = await flexmesh('compose', '--home', home, '--export', target, '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ experts: [], topK: 1, router: 'rows', directory: target })
    expect(await readdir(parent)).toEqual(['model'])
  })
})
