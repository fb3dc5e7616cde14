import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { withConfiguration } from '../../src/cli/configuration.ts'
import { START } from '../../src/cli/start.ts'
import type { Invocation } from '../../src/commands/parameters.ts'
import { TRAIN } from '../../src/commands/train.ts'
import { founded } from '../support/command-homes.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)
afterEach(() => {
  vi.unstubAllEnvs()
})

interface Shown {
  readonly table: string
  readonly name: string
  readonly value?: unknown
  readonly default?: string
  readonly source: string
}

/** A home folder that holds nothing but a configuration file. */
async function homeWith(content: string): Promise<{ home: string; file: string }> {
  const home = await folder()
  const file = join(home, 'flexmesh.toml')
  await writeFile(file, content)
  return { home, file }
}

async function shownBy(...args: string[]): Promise<readonly Shown[]> {
  const { code, stdout, stderr } = await flexmesh('config', '--json', ...args)
  expect([code, stderr]).toEqual([0, ''])
  return (JSON.parse(stdout) as { settings: Shown[] }).settings
}

describe('flexmesh config', () => {
  it('shows every option with its value and source', async () => {
    const { home, file } = await homeWith(
      'threads = 3\n\n[start]\nport = 9000\nlisten = ["/ip4/0.0.0.0/tcp/4002"]\n[train]\nsteps = 50\n',
    )
    vi.stubEnv('FLEXMESH_START_PORT', '9001')
    vi.stubEnv('FLEXMESH_TRAIN_EPSILON', '8')
    const shown = await shownBy('--home', home)
    const of = (table: string, name: string): Shown | undefined =>
      shown.find((one) => one.table === table && one.name === name)
    expect(of('', 'threads')).toMatchObject({ value: '3', source: `${file}, line 1` })
    expect(of('start', 'port')).toMatchObject({ value: '9001', source: 'FLEXMESH_START_PORT' })
    expect(of('start', 'listen')).toMatchObject({
      value: ['/ip4/0.0.0.0/tcp/4002'],
      source: `${file}, line 5`,
    })
    expect(of('start', 'log-format')).toMatchObject({ default: 'pretty', source: 'default' })
    expect(of('train', 'steps')).toMatchObject({ value: '50', source: `${file}, line 7` })
    expect(of('train', 'epsilon')).toMatchObject({ value: '8', source: 'FLEXMESH_TRAIN_EPSILON' })
    const { stdout } = await flexmesh('config', '--home', home)
    expect(stdout).toMatch(/^file: .*flexmesh\.toml\n\nall commands\n/)
    expect(stdout).toMatch(/\n\[start\]\n +port +9001 +FLEXMESH_START_PORT\n/)
  })

  it('names the file that would be read if there is none', async () => {
    const home = await folder()
    const { stdout } = await flexmesh('config', '--home', home)
    expect(stdout).toContain(`no configuration file; it would be ${home}/flexmesh.toml\n`)
  })

  it('lists every option of start and of train', async () => {
    const shown = await shownBy('--home', await folder())
    for (const [table, form] of [
      ['start', START],
      ['train', TRAIN],
    ] as const) {
      const names = shown.filter((one) => one.table === table).map(({ name }) => name)
      const declared = Object.values(form.parameters).flatMap(({ option }) => option?.name ?? [])
      expect(names).toEqual([...declared, ...(form.clientOptions ?? []).map(({ name }) => name)])
    }
  })
})

describe('a configuration', () => {
  const invoked = (command: string, home: string, given: Partial<Invocation> = {}): Invocation => ({
    command,
    positionals: [],
    ...given,
    values: { home, ...given.values },
  })

  it('gives way to the environment, and that to the command line', async () => {
    const { home } = await homeWith('[start]\nport = 1\nrouter = "rows"\nupstream = "http://a"\n')
    const environment = { FLEXMESH_START_PORT: '2', FLEXMESH_START_ROUTER: 'solved' }
    const { values } = await withConfiguration(
      START,
      invoked('start', home, { values: { port: '3' } }),
      environment,
    )
    expect(values).toMatchObject({ port: '3', router: 'solved', upstream: 'http://a' })
  })

  it('counts an empty variable as not set, splits lists at commas, and reads true and false', async () => {
    const { home } = await homeWith('[start]\nrequire-final = true\n')
    const { values } = await withConfiguration(START, invoked('start', home), {
      FLEXMESH_START_PORT: '',
      FLEXMESH_START_ALLOW_ORIGIN: 'https://a.example, https://b.example',
      FLEXMESH_START_REQUIRE_FINAL: 'false',
    })
    expect(values).toEqual({
      home,
      'allow-origin': ['https://a.example', 'https://b.example'],
      'require-final': false,
    })
  })

  it('has paths that are relative to the file', async () => {
    const { home } = await homeWith('passphrase-file = "secret"\n[train]\ndata = ["texts", "/abs"]\n')
    const { values } = await withConfiguration(TRAIN, invoked('train', home), {})
    expect(values).toEqual({
      home,
      'passphrase-file': join(home, 'secret'),
      data: [join(home, 'texts'), '/abs'],
    })
  })

  it('does not add to the files that a command line names as words', async () => {
    const { home } = await homeWith('[train]\ndata = "texts"\n')
    const given = invoked('train', home, { positionals: ['notes.txt'] })
    expect((await withConfiguration(TRAIN, given, {})).values).toEqual({ home })
  })

  it('of other commands is not applied', async () => {
    const { home } = await homeWith('[train]\nsteps = 5\n')
    const { values } = await withConfiguration(START, invoked('start', home), { FLEXMESH_TRAIN_STEPS: '6' })
    expect(values).toEqual({ home })
  })

  it('may choose the home folder only in a file that is named', async () => {
    const { home, file } = await homeWith('home = "elsewhere"\n')
    const named = invoked('start', home, { values: { config: file, home: undefined } })
    expect((await withConfiguration(START, named, {})).values['home']).toBe(join(home, 'elsewhere'))
    await expect(withConfiguration(START, invoked('start', home), {})).rejects.toThrow(
      `${file}, line 1: home: only a file that --config names can choose the home folder`,
    )
  })
})

describe('a configuration file is refused', () => {
  it.each([
    ['[start]\nprot = 1\n', 'line 2: unknown option of start "prot", nearest is "port"'],
    ['\nengin = "cpu"\n', 'line 2: unknown option of all commands "engin", nearest is "engine"'],
    ['json = true\n', 'line 1: unknown option of all commands "json", nearest is'],
    [
      '[sart]\nport = 1\n',
      'line 1: unknown table [sart], nearest is [start]; the tables are [start] and [train]',
    ],
    [
      '[start]\n# a comment\nport = 70000\n',
      'line 3: port: expected a whole number from 0 to 65535, got "70000"',
    ],
    ['[start]\nport = true\n', 'line 2: port: expected text or a number, got a boolean'],
    ['[start]\nlisten = [1, [2]]\n', 'line 2: listen: expected text or a list of texts, got a list'],
    ['[start]\nrequire-final = "yes"\n', 'line 2: require-final: expected true or false, got a string'],
    ['[start]\nport = 2026-12-01\n', 'line 2: port: expected text or a number, got a date'],
    ['start.port = "x"\n', 'line 1: port: expected a whole number'],
    ['threads = 1\nthreads = 2\n', 'line 2: trying to redefine an already defined'],
    ['[start]\nport =\n', 'line 2: '],
  ])('%j', async (content, message) => {
    const { home, file } = await homeWith(content)
    const { code, stdout, stderr } = await flexmesh('start', '--home', home)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    expect(stderr).toContain(`${file}, ${message}`)
  })

  it('that does not exist, if it was named', async () => {
    const missing = join(await folder(), 'missing.toml')
    const { code, stderr } = await flexmesh('status', '--config', missing)
    expect([code, stderr]).toEqual([1, `flexmesh: --config: expected a file, ${missing} does not exist\n`])
  })

  it('as a variable with a value that the option cannot have', async () => {
    vi.stubEnv('FLEXMESH_START_PORT', 'x')
    const { code, stderr } = await flexmesh('start', '--home', await folder())
    expect(code).toBe(2)
    expect(stderr).toBe(
      'flexmesh: FLEXMESH_START_PORT: port: expected a whole number from 0 to 65535, got "x"\n',
    )
  })
})

it('a node that is configured by a file starts with it, and commands talk to it', async () => {
  const home = await founded()
  await writeFile(
    join(home, 'flexmesh.toml'),
    'threads = 1\n[start]\nport = 0\nlog-format = "json"\nallow-origin = "https://a.example"\n',
  )
  const node = start('start', '--home', home)
  const [, url] = /(http\S+),/.exec(await node.line('API     http://')) ?? []
  const { headers } = await fetch(`${url}/models`, {
    method: 'OPTIONS',
    headers: { origin: 'https://a.example' },
  })
  expect(headers.get('access-control-allow-origin')).toBe('https://a.example')
  // `threads` concerns the engine, which a running node has already; only the command line would contradict it.
  expect((await flexmesh('members', '--home', home)).code).toBe(0)
  expect((await flexmesh('members', '--home', home, '--threads', '1')).code).toBe(2)
  expect((await node.interrupt()).code).toBe(0)
})
