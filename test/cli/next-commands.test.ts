/** Commands that the program prints work as they are printed: they name the home and the passphrase of the user. */
import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { DEFAULT_HOME } from '../../src/cli/context.ts'
import { homeOptionsOf } from '../../src/cli/home-options.ts'
import type { Invocation } from '../../src/commands/parameters.ts'
import { flexmesh, start } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { tinyModel } from '../support/tiny-model.ts'

afterAll(cleanUp)

/** The arguments of the printed command that begins like this, as a shell reads them. */
function printed(text: string, command: string): string[] {
  const found = new RegExp(`"(flexmesh ${command}[^"]*)"|: (flexmesh ${command}[^,;\\n]*)`).exec(text)
  const line = found?.[1] ?? found?.[2]
  if (line === undefined) throw new Error(`no command "${command}" in ${text}`)
  const words = execFileSync('sh', ['-c', `printf '%s\\n' ${line}`], { encoding: 'utf8' }).split('\n')
  return words.slice(1, -1)
}

async function initialised(): Promise<{ home: string; options: string[]; stdout: string }> {
  const dir = await folder()
  const home = join(dir, 'a home')
  const secret = join(dir, 'its secret.txt')
  await writeFile(secret, 'correct horse battery')
  const options = ['--home', home, '--passphrase-file', secret]
  const { stdout, code } = await flexmesh(
    'init',
    ...options,
    ...['--institution', "St. Anna's", '--no-mdns', '--listen', '/ip4/127.0.0.1/tcp/0'],
  )
  expect(code).toBe(0)
  return { home, options, stdout }
}

describe('a printed command', () => {
  it('leads from the key to a running node with an invitation', async () => {
    const { stdout } = await initialised()
    const model = ['--public-model', await tinyModel(), '--name', 'Test']
    const created = await flexmesh(...printed(stdout, 'consortium create'), ...model)
    expect(created).toMatchObject({ code: 0 })
    const running = start(...printed(created.stdout, 'start'), '--port', '0')
    await running.line('for the dashboard')
    expect(await flexmesh(...printed(created.stdout, 'invite'))).toMatchObject({ code: 0 })
    const { stdout: output, code } = await running.interrupt()
    expect(code).toBe(0)
    expect(printed(output, 'dashboard')).toEqual(printed(created.stdout, 'start').with(0, 'dashboard'))
  })

  it('is complete in an error, in text of the running node, and in the list of what waits', async () => {
    const { home, options } = await initialised()
    const { stderr } = await flexmesh('start', '--home', home, '--passphrase-file', options[3] as string)
    expect(printed(stderr, 'join')).toEqual(['join', 'INVITE', ...options])
    const model = ['--public-model', await tinyModel(), '--name', 'Test']
    expect(await flexmesh('consortium', 'create', ...options, ...model)).toMatchObject({ code: 0 })
    const running = start('start', ...options, '--port', '0', '--max-disk', '1MB')
    await running.line('for the dashboard')
    const refused = await flexmesh('audit', 'law', '--home', home)
    expect(printed(refused.stderr, 'train')).toEqual([
      'train',
      '--name',
      'law',
      '--data',
      'PATH',
      '--home',
      home,
    ])
    const { stdout } = await flexmesh('status', '--home', home)
    expect(printed(stdout, 'gc')).toEqual(['gc', ...options])
    await running.interrupt()
  })
})

describe('the options that lead to a home', () => {
  const values = { home: '/srv/a', config: '/etc/a.toml', 'passphrase-file': '/etc/secret' }
  it.each<[string, Partial<Invocation>, string[]]>([
    ['are none for the default home', { values: {} }, []],
    ['are none for the default home by its name', { values: { home: DEFAULT_HOME } }, []],
    [
      'are those of the command line',
      { values },
      ['--home', '/srv/a', '--config', '/etc/a.toml', '--passphrase-file', '/etc/secret'],
    ],
    [
      'are the home alone if the environment gives the others',
      { values: { ...values, config: undefined }, configured: new Set(['home', 'passphrase-file']) },
      ['--home', '/srv/a'],
    ],
    [
      'hold no pipe that only this process can read',
      { values: { home: '/srv/a', 'passphrase-file': '/dev/fd/63' } },
      ['--home', '/srv/a'],
    ],
  ])('%s', (_, invocation, options) => {
    expect(homeOptionsOf({ command: 'start', positionals: [], values: {}, ...invocation })).toEqual(options)
  })
})
