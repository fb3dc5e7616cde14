/** What other users of the machine, and odd files in the place of regular ones, can do to a node. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { initialised } from '../support/command-homes.ts'
import { type Ended, flexmesh, fromSource, outcome } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { shortText } from '../support/texts.ts'
import { tinyModel } from '../support/tiny-model.ts'

afterAll(cleanUp)

const INIT = ['init', '--institution', 'Hospital', '--insecure', '--listen', '/ip4/127.0.0.1/tcp/0', '--home']

async function namedPipe(path: string): Promise<string> {
  await promisify(execFile)('mkfifo', [path])
  return path
}

/** A folder with this mode, whatever the umask. */
async function folderOf(mode: number): Promise<string> {
  const path = join(await folder(), 'home')
  await mkdir(path)
  await chmod(path, mode)
  return path
}

async function modeOf(path: string): Promise<number> {
  return (await stat(path)).mode & 0o777
}

/** Run a command line that is refused. @returns its only output: one sentence on stderr. */
async function refused(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await flexmesh(...args)
  expect([code === 0, stdout]).toEqual([false, ''])
  expect(stderr).toMatch(/^flexmesh: [^\n]+\n$/)
  return stderr
}

describe('flexmesh init', () => {
  it('makes an empty folder that others may enter private', async () => {
    const home = await folderOf(0o777)
    expect((await flexmesh(...INIT, home)).code).toBe(0)
    expect(await modeOf(home)).toBe(0o700)
  })

  it('refuses a folder that others may enter and that holds files', async () => {
    const home = await folderOf(0o755)
    await writeFile(join(home, 'notes.txt'), 'mine')
    expect(await refused(...INIT, home)).toContain(`run: chmod 700 ${home}`)
    expect(await readdir(home)).toEqual(['notes.txt'])
    expect(await modeOf(home)).toBe(0o755)
  })

  it.each([
    ['a place that only the system writes', '/proc/flexmesh', 'cannot be created'],
    ['a path below a file', `${process.execPath}/home`, 'does not exist'],
    ['a file', process.execPath, 'is not a folder'],
    ['a path that is too long for a socket in it', `/tmp/${'x'.repeat(120)}`, 'choose a shorter --home'],
    ['a name that is too long', `/tmp/${'x'.repeat(300)}`, 'choose a shorter --home'],
  ])('refuses %s', async (_, home, message) => {
    expect(await refused(...INIT, home)).toContain(message)
  })

  it('can be repeated after a passphrase that is too short', async () => {
    const secret = join(await folder(), 'secret.txt')
    await writeFile(secret, 'short')
    const home = join(await folder(), 'home')
    const init = ['init', '--institution', 'Hospital', '--home', home]
    expect(await refused(...init, '--passphrase-file', secret)).toContain('at least 12 characters')
    expect((await flexmesh(...init, '--insecure')).code).toBe(0)
  })
})

describe('a home that others may enter', () => {
  it('is refused by every command', async () => {
    const home = await initialised()
    await chmod(home, 0o770)
    expect(await refused('start', '--home', home)).toContain(`run: chmod 700 ${home}`)
    expect(await refused('members', '--home', home)).toContain(`run: chmod 700 ${home}`)
  })
})

describe('a process with an open umask', () => {
  async function openly(...args: string[]): Promise<Ended> {
    const quoted = [process.execPath, ...fromSource, ...args].map((arg) => `'${arg}'`).join(' ')
    return outcome(spawn('sh', ['-c', `umask 000; exec ${quoted}`], { stdio: ['ignore', 'pipe', 'pipe'] }))
  }

  it('creates every file with mode 0600 and every folder with mode 0700', async () => {
    const home = join(await folder(), 'home')
    expect((await openly(...INIT, home)).code).toBe(0)
    const create = [
      'consortium',
      'create',
      '--name',
      'Test',
      '--public-model',
      await tinyModel(),
      '--home',
      home,
    ]
    expect((await openly(...create)).code).toBe(0)
    const text = await shortText('archive')
    const train = ['train', '--name', 'law', '--data', text, '--steps', '1', '--home', home]
    expect((await openly(...train)).code).toBe(0)
    const entries = await readdir(home, { recursive: true, withFileTypes: true })
    for (const dir of ['catalogue', join('law', 'corpus')]) {
      expect(entries.some(({ parentPath }) => parentPath.endsWith(dir))).toBe(true)
    }
    for (const entry of entries) {
      const path = join(entry.parentPath, entry.name)
      expect([path, await modeOf(path)]).toEqual([path, entry.isDirectory() ? 0o700 : 0o600])
    }
    expect(await modeOf(home)).toBe(0o700)
  })
})

it('DUMP_SESSION_KEYS, which makes the encryption log its keys, is refused', async () => {
  const home = await initialised()
  vi.stubEnv('DUMP_SESSION_KEYS', '1')
  expect(await refused('start', '--home', home)).toContain('unset it')
  vi.unstubAllEnvs()
})

describe('a model folder', () => {
  /** A copy of the tiny model in which one file has been replaced. */
  async function modelWith(name: string, put: (path: string) => Promise<unknown>): Promise<string> {
    const dir = join(await folder(), 'model')
    await cp(await tinyModel(), dir, { recursive: true })
    await rm(join(dir, name), { force: true })
    await put(join(dir, name))
    return dir
  }

  async function refusal(model: string): Promise<string> {
    const home = await initialised()
    return refused('consortium', 'create', '--home', home, '--name', 'Test', '--public-model', model)
  }

  it.each(['model.safetensors', 'tokenizer.json', 'config.json', 'replay.jsonl'])(
    'with a named pipe as %s is refused at once',
    async (name) => {
      expect(await refusal(await modelWith(name, namedPipe))).toContain(`${name} is a named pipe`)
    },
  )

  it.each(['model.safetensors', 'tokenizer.json', 'config.json', 'replay.jsonl'])(
    'with a folder as %s is refused',
    async (name) => {
      expect(await refusal(await modelWith(name, (path) => mkdir(path)))).toContain(`${name} is a folder`)
    },
  )

  it.each(['model.safetensors', 'tokenizer.json', 'replay.jsonl', 'replay.txt'])(
    'with a link to a file elsewhere as %s is refused, because members would receive that file',
    async (name) => {
      const other = join(await folder(), 'private.txt')
      await writeFile(other, 'secret')
      const dir = await modelWith(name, (path) => symlink(other, path))
      if (name === 'replay.txt') await rm(join(dir, 'replay.jsonl'))
      expect(await refusal(dir)).toContain(`is a link that leaves the folder, to ${other}`)
    },
  )

  it('with two replay texts is refused', async () => {
    const dir = await modelWith('replay.csv', (path) => writeFile(path, 'text\nhello\n'))
    expect(await refusal(dir)).toContain('replay.csv and replay.jsonl')
  })

  it('in the cache of Hugging Face, where files are links, can be used', async () => {
    const cache = await folder()
    await cp(await tinyModel(), join(cache, 'blobs'), { recursive: true })
    const dir = join(cache, 'snapshots', 'abc')
    await mkdir(dir, { recursive: true })
    for (const name of await readdir(join(cache, 'blobs'))) {
      if (name.startsWith('replay')) await cp(join(cache, 'blobs', name), join(dir, name))
      else await symlink(join('..', '..', 'blobs', name), join(dir, name))
    }
    const create = ['consortium', 'create', '--name', 'Test', '--public-model', dir]
    expect((await flexmesh(...create, '--home', await initialised())).code).toBe(0)
  })

  it('and a named pipe as --replay are refused at once', async () => {
    const pipe = await namedPipe(join(await folder(), 'replay.jsonl'))
    const model = ['--public-model', await tinyModel(), '--replay', pipe]
    const home = await initialised()
    const sentence = await refused('consortium', 'create', '--home', home, '--name', 'Test', ...model)
    expect(sentence).toContain(`${pipe} is a named pipe`)
  })
})

describe('a passphrase file', () => {
  async function refusal(file: string): Promise<string> {
    const home = join(await folder(), 'home')
    return refused('init', '--institution', 'Hospital', '--home', home, '--passphrase-file', file)
  }

  it('that is a named pipe is refused at once', async () => {
    const pipe = await namedPipe(join(await folder(), 'secret'))
    expect(await refusal(pipe)).toContain(`${pipe} is a named pipe`)
  })

  it('that is a socket is refused', async () => {
    const path = join(await folder(), 'socket')
    const server = createServer().listen(path)
    await once(server, 'listening')
    expect(await refusal(path)).toContain(`${path} is a socket`)
    server.close()
  })

  it.each([
    ['a folder', '/', 'is a folder'],
    ['an endless device', '/dev/zero', 'is a device'],
    ['an empty device', '/dev/null', 'is a device'],
  ])('that is %s is refused', async (_, path, message) => {
    expect(await refusal(path)).toContain(message)
  })

  it.each([
    ['empty', Buffer.from('\n'), 'is empty'],
    ['longer than a passphrase', Buffer.alloc(5000, 'a'), 'at most 4096 bytes'],
    ['no UTF-8', Buffer.alloc(20, 0xff), 'expected a passphrase in UTF-8'],
  ])('that is %s is refused', async (_, content, message) => {
    const file = join(await folder(), 'secret')
    await writeFile(file, content)
    expect(await refusal(file)).toContain(message)
  })

  it('may be the standard input of the process', async () => {
    const home = join(await folder(), 'home')
    const args = ['init', '--institution', 'Hospital', '--home', home, '--passphrase-file', '/dev/stdin']
    const child = spawn(process.execPath, [...fromSource, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
    const ended = outcome(child)
    child.stdin.end('correct horse battery\n')
    expect(await ended).toMatchObject({ code: 0, stderr: '' })
    const secret = join(await folder(), 'secret')
    await writeFile(secret, 'correct horse battery')
    const members = await refused('members', '--home', home, '--passphrase-file', secret)
    expect(members).toContain('belongs to no consortium')
  })
})

describe('flexmesh passphrase', () => {
  async function secret(text: string): Promise<string> {
    const file = join(await folder(), 'secret')
    await writeFile(file, text)
    return file
  }

  /** A home that belongs to no consortium, so that a command that could read its key says so. */
  async function homeWith(file: string): Promise<string> {
    const home = join(await folder(), 'home')
    const init = ['init', '--institution', 'Hospital', '--home', home, '--passphrase-file', file]
    expect((await flexmesh(...init)).code).toBe(0)
    return home
  }

  it('encrypts the key under another passphrase, and the old one does not open it any more', async () => {
    const [before, after] = [await secret('correct horse battery'), await secret('staple correct horse')]
    const home = await homeWith(before)
    const change = ['passphrase', '--home', home, '--passphrase-file', before, '--new-passphrase-file', after]
    expect(await flexmesh(...change)).toMatchObject({ code: 0, stderr: '' })
    expect(await modeOf(join(home, 'key.json'))).toBe(0o600)
    const members = ['members', '--home', home, '--passphrase-file']
    expect(await refused(...members, before)).toContain('the passphrase is wrong')
    expect(await refused(...members, after)).toContain('belongs to no consortium')
  })

  it('leaves the key as it was if the old passphrase is wrong or the new one too short', async () => {
    const [right, wrong, short] = [
      await secret('correct horse battery'),
      await secret('another horse battery'),
      await secret('short'),
    ]
    const home = await homeWith(right)
    const change = ['passphrase', '--home', home, '--passphrase-file']
    expect(await refused(...change, wrong, '--new-passphrase-file', right)).toContain('passphrase is wrong')
    expect(await refused(...change, right, '--new-passphrase-file', short)).toContain(
      'at least 12 characters',
    )
    expect(await refused(...change, right)).toContain('give either --new-passphrase-file')
    const sentence = await refused('members', '--home', home, '--passphrase-file', right)
    expect(sentence).toContain('belongs to no consortium')
  })
})
