import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { parseCommandLine } from '../../src/cli/arguments.ts'
import { optionsOf } from '../../src/cli/options.ts'
import { COMMANDS } from '../../src/cli/table.ts'
import { DEFAULT_TOP_K } from '../../src/composition/compose.ts'
import { TRAIN_DEFAULTS } from '../../src/owner/train-defaults.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
afterAll(cleanUp)

describe('wrong usage ends with exit code 2 and one sentence', () => {
  it.each([
    ['an unknown command', ['fly'], 'unknown command "fly"'],
    ['an unknown command of consortium', ['consortium', 'dissolve'], 'unknown command "consortium dissolve"'],
    ['an unknown option', ['train', '--speed', '9'], '--speed'],
    ['a required option that is missing', ['train'], '--name is missing'],
    ['a number that is none', ['start', '--port', 'x'], '--port: expected a whole number from 0 to 65535'],
    ['a number out of range', ['train', '--name', 'x', '--steps', '0'], '--steps: expected a whole number'],
    ['one of two options that belong together', ['start', '--upstream', 'http://127.0.0.1:9/v1'], 'together'],
    [
      'an upstream that is not HTTP',
      ['start', '--upstream', 'ftp://host', '--upstream-composition', 'composition.json'],
      'ftp',
    ],
    ['an origin with a path', ['start', '--allow-origin', 'https://a.example/'], '--allow-origin: expected'],
    ['an unknown weight format', ['generate', 'x', '--weights', 'int9'], 'auto, fp32, bf16, int8 or int4'],
    ['an unknown router of start', ['start', '--router', 'trained'], 'auto, solved or rows'],
    ['an unknown router of compose', ['compose', '--router', 'trained'], 'auto, solved or rows'],
    ['a missing prompt', ['generate'], 'give a prompt'],
    ['a key without protection', ['init', '--institution', 'A'], '--passphrase-file'],
    ['a broken invitation', ['join', 'flexmesh-invite-1:abc'], 'invitation: '],
  ])('%s', async (_, args, message) => {
    const home = args[0] === 'join' ? await initialisedHome() : join(await folder(), 'home')
    const { code, stdout, stderr } = await flexmesh(...args, '--home', home)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
    expect(stderr).toContain(message)
  })
})

async function initialisedHome(): Promise<string> {
  const home = join(await folder(), 'home')
  await flexmesh('init', '--home', home, '--institution', 'Guest', '--insecure')
  return home
}

describe('help', () => {
  it.each([[[]], [['help']], [['--help']], [['-h']]])('lists every command: %j', async (args) => {
    const { code, stdout } = await flexmesh(...args)
    expect(code).toBe(0)
    for (const { name, summary } of COMMANDS) {
      expect(stdout).toMatch(new RegExp(`^  ${name} +${summary.replaceAll(/[.*+?^()]/g, '\\$&')}$`, 'm'))
    }
  })

  it.each(COMMANDS.map(({ name }) => name))('of a command lists its options: %s', async (name) => {
    const { code, stdout } = await flexmesh(...name.split(' '), '--help')
    const { row, command } = await parseCommandLine(name.split(' '))
    expect(code).toBe(0)
    expect(command.name).toBe(row.name)
    expect(stdout).toContain(`flexmesh ${command.usage}\n\n${row.summary}\n`)
    for (const { name: option, help } of optionsOf(command)) {
      expect(stdout).toMatch(new RegExp(`^  --${option} `, 'm'))
      expect(stdout).toContain(help)
    }
  })

  it.each(['steps', 'configuration', 'logs', 'files', 'exit-codes'])('of a topic: %s', async (topic) => {
    expect((await flexmesh('help')).stdout).toMatch(new RegExp(`^  ${topic} +\\S`, 'm'))
    const { code, stdout, stderr } = await flexmesh('help', topic)
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout.split('\n').length).toBeGreaterThan(4)
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(110)
    for (const [, name = ''] of stdout.matchAll(/flexmesh ((?:consortium )?[a-z]+)/g))
      if (name !== 'help') expect(COMMANDS.map((row) => row.name)).toContain(name)
  })

  it('of a topic shows a configuration that the program reads', async () => {
    const lines = (await flexmesh('help', 'configuration')).stdout.split('\n')
    const file = lines.filter((line) => /^ {15}\S/.test(line)).map((line) => line.trim())
    const home = await folder()
    await writeFile(join(home, 'flexmesh.toml'), file.join('\n'))
    const { code, stdout, stderr } = await flexmesh('config', '--home', home)
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^ +listen +\/ip4\/0\.0\.0\.0\/tcp\/4001 +\S*flexmesh\.toml, line 4$/m)
  })

  it('names the defaults that the commands use', async () => {
    const train = (await flexmesh('train', '--help')).stdout
    expect(train).toContain(`number of training steps (default ${TRAIN_DEFAULTS.steps})`)
    expect(train).toContain(`larger ones (default ${TRAIN_DEFAULTS.privateSteps})`)
    expect(train).toContain(`in the same memory (default ${TRAIN_DEFAULTS.accumulate})`)
    expect((await flexmesh('compose', '--help')).stdout).toContain(`per token (default ${DEFAULT_TOP_K})`)
  })

  it('loads no package and no command, so that it is printed at once', async () => {
    const loaded = await loadedBy('src/main.ts')
    expect(loaded.filter((name) => !name.startsWith('src/') && !name.startsWith('node:'))).toEqual([])
    expect(loaded.filter((name) => name.startsWith('src/')).length).toBeLessThan(15)
  })

  it('of a command loads neither a tensor library nor libp2p', async () => {
    const files = [...(await commandFiles('src/cli')), ...(await commandFiles('src/commands'))]
    expect(files.length).toBeGreaterThan(10)
    for (const file of [...files, 'src/cli/arguments.ts']) {
      const packages = (await loadedBy(file)).filter((name) => !/^(src\/|node:)/.test(name))
      expect([file, packages]).toEqual([file, []])
    }
  })
})

/** Files that a table of commands loads when their command is named. */
async function commandFiles(folder: string): Promise<string[]> {
  const table = await readFile(join(root, folder, 'table.ts'), 'utf8')
  return [...table.matchAll(/await import\('\.\/(.+)'\)/g)].map(([, file]) => `${folder}/${file}`)
}

/** Modules that a source file loads by its static imports, and their imports, without those of types only. */
async function loadedBy(file: string, seen = new Set<string>()): Promise<string[]> {
  if (seen.has(file)) return []
  seen.add(file)
  const source = await readFile(join(root, file), 'utf8')
  for (const [, clause = '', name = ''] of source.matchAll(/^import ([^'"]*?)'([^']+)'$/gm)) {
    if (clause.startsWith('type ')) continue
    if (name.startsWith('.')) await loadedBy(normalize(join(dirname(file), name)), seen)
    else seen.add(name)
  }
  return [...seen]
}

describe('the table of commands', () => {
  it('gives every command one name', () => {
    expect(new Set(COMMANDS.map(({ name }) => name)).size).toBe(COMMANDS.length)
  })

  it.each(['invite', 'join', 'members', 'approve', 'reject', 'revoke', 'renew'])(
    'lets people write "consortium %s"',
    async (name) => {
      const words = ['invite', 'members', 'renew'].includes(name) ? [] : ['x']
      const { invocation } = await parseCommandLine(['consortium', name, ...words, '--json'])
      expect(invocation).toMatchObject({ command: name, positionals: words, values: { json: true } })
    },
  )
})

describe('words that a command would not read', () => {
  it.each([
    [['generate', 'The', 'protein'], 'generate: unexpected "protein"; put text that has spaces into quotes'],
    [['publish', 'law', 'music'], 'publish: unexpected "music"; put text that has spaces into quotes'],
    [['members', 'all'], 'members: unexpected "all"; "flexmesh members --help" lists the options'],
    [['jobs', 'all'], 'jobs: unexpected "all"; "flexmesh jobs --help" lists the options'],
    [['start', 'now'], 'start: unexpected "now"; "flexmesh start --help" lists the options'],
  ])('are refused: %j', async (argv, message) => {
    await expect(parseCommandLine(argv)).rejects.toMatchObject({ code: 'usage', message })
  })

  it('are paths for the commands that take several', async () => {
    const { invocation } = await parseCommandLine(['train', '--name', 'law', '--data', 'a', 'b', 'c'])
    expect(invocation.positionals).toEqual(['b', 'c'])
  })
})

it('every command line of the README is one that the program knows', async () => {
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const lines = readme.replaceAll('\\\n', ' ').matchAll(/^npx flexmesh (.*)$/gm)
  const commands = [...lines]
    .map(([, line = '']) => line.replace(/ {2,}#.*$/, ''))
    .flatMap((line) => line.split(' && npx flexmesh '))
  expect(commands.length).toBeGreaterThan(15)
  for (const line of commands) {
    const words = [...line.replaceAll(/[[\]]/g, '').matchAll(/"([^"]*)"|(\S+)/g)]
    await expect(
      parseCommandLine(words.map(([, quoted, plain]) => quoted ?? plain ?? '')),
    ).resolves.toBeDefined()
  }
})
