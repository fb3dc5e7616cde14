/** The commands `backup` and `restore`, on a home whose node runs or does not run. */
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { founded, initialised } from '../support/command-homes.ts'
import { type Ended, flexmesh, start } from '../support/command-line.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'
import { tinyModel } from '../support/tiny-model.ts'

let secret: string
beforeAll(async () => {
  secret = join(await folder(), 'passphrase')
  await writeFile(secret, 'correct horse battery\n')
})
afterAll(cleanUp)

const inFolder = async (name: string): Promise<string> => join(await folder(), name)

function backup(home: string, file: string, ...more: string[]): Promise<Ended> {
  return flexmesh('backup', file, '--home', home, '--backup-passphrase-file', secret, ...more)
}

function restore(file: string, home: string, ...more: string[]): Promise<Ended> {
  return flexmesh('restore', file, '--home', home, '--backup-passphrase-file', secret, ...more)
}

async function restored(file: string): Promise<string> {
  const home = await inFolder('new')
  const ended = await restore(file, home, '--public-model', await tinyModel())
  expect(ended).toMatchObject({ code: 0, stderr: '' })
  return home
}

async function expectRefused(ended: Ended, home: string, words: string): Promise<void> {
  expect(ended).toMatchObject({ code: expect.not.toSatisfy((code) => code === 0), stdout: '' })
  expect(ended.stderr).toMatch(/^flexmesh: [^\n]+\n$/)
  expect(ended.stderr).toContain(words)
  expect(await readdir(dirname(home))).not.toContain('new')
  expect((await readdir(dirname(home))).filter((name) => name.endsWith('.tmp'))).toEqual([])
}

describe('flexmesh backup', () => {
  it('of a stopped node is restored as the same member of the same consortium', async () => {
    const home = await founded()
    expect(await flexmesh('keys', 'create', 'library', '--home', home)).toMatchObject({ code: 0 })
    const file = await inFolder('node.backup')
    expect((await backup(home, file)).stdout).toContain('written and read back')
    const again = await restored(file)
    const status = async (one: string) =>
      JSON.parse((await flexmesh('status', '--json', '--home', one)).stdout)
    const { institution, peerId, consortium } = await status(home)
    expect(await status(again)).toMatchObject({ institution, peerId, consortium })
    expect((await flexmesh('keys', 'list', '--home', again)).stdout).toContain('library')
    expect(await readFile(join(again, 'api-keys.json'))).toEqual(await readFile(join(home, 'api-keys.json')))
    expect(((await stat(file)).mode & 0o777).toString(8)).toBe('600')
    expect(((await stat(again)).mode & 0o777).toString(8)).toBe('700')
  })

  it('of a running node does not stop it, and its egress ledger verifies', async () => {
    const home = await founded()
    const node = start('start', '--home', home, '--port', '0')
    await node.line('is up as')
    const file = await inFolder('node.backup')
    expect(await backup(home, file)).toMatchObject({ code: 0, stderr: '' })
    expect(await flexmesh('members', '--home', home)).toMatchObject({ code: 0 })
    expect((await node.interrupt()).code).toBe(0)
    const again = await restored(file)
    const running = start('start', '--home', again, '--port', '0')
    await running.line('is up as')
    expect((await running.interrupt()).code).toBe(0)
    expect(await flexmesh('egress', 'verify', '--home', again)).toMatchObject({ code: 0 })
  })

  it('of a home that belongs to no consortium needs no public model', async () => {
    const file = await inFolder('node.backup')
    expect(await backup(await initialised(), file)).toMatchObject({ code: 0 })
    const home = await inFolder('new')
    expect((await restore(file, home)).stdout).toContain('flexmesh join INVITE')
  })

  it('holds an institution key that lies in the home, and the new home finds it there', async () => {
    const home = await inFolder('old')
    const key = join(home, 'institution', 'key.json')
    const init = ['--home', home, '--institution', 'Hospital', '--insecure', '--institution-key', key]
    await mkdir(dirname(key), { recursive: true, mode: 0o700 })
    await chmod(home, 0o700)
    expect(await flexmesh('init', ...init)).toMatchObject({ code: 0, stderr: '' })
    const file = await inFolder('node.backup')
    expect(await backup(home, file)).toMatchObject({ code: 0 })
    const again = await inFolder('new')
    expect(await restore(file, again)).toMatchObject({ code: 0 })
    const moved = join(again, 'institution', 'key.json')
    expect(JSON.parse(await readFile(join(again, 'institution.json'), 'utf8'))).toEqual({ file: moved })
    for (const end of ['', '.next'])
      expect(await readFile(`${moved}${end}`)).toEqual(await readFile(`${key}${end}`))
  })

  it('replaces no file, and leaves none after a refusal', async () => {
    const home = await founded()
    const file = await inFolder('node.backup')
    await writeFile(file, 'precious')
    expect((await backup(home, file)).stderr).toContain('exists already')
    expect(await readFile(file, 'utf8')).toBe('precious')
    const short = await inFolder('short')
    await writeFile(short, 'short')
    const other = await inFolder('other.backup')
    const refused = await flexmesh('backup', other, '--home', home, '--backup-passphrase-file', short)
    expect(refused.stderr).toContain('at least 12 characters')
    expect(await readdir(dirname(other))).toEqual([])
  })
})

describe('flexmesh restore refuses', () => {
  /** A backup of a founder's home, which no test changes. */
  let file: string
  beforeAll(async () => {
    file = await inFolder('node.backup')
    expect(await backup(await founded(), file)).toMatchObject({ code: 0, stderr: '' })
  })

  it('a wrong passphrase', async () => {
    const home = await inFolder('new')
    const wrong = await inFolder('wrong')
    await writeFile(wrong, 'wrong horse battery')
    const ended = await flexmesh('restore', file, '--home', home, '--backup-passphrase-file', wrong)
    await expectRefused(ended, home, 'the passphrase is wrong')
  })

  it.each<[string, (bytes: Buffer) => Buffer, string]>([
    ['a file that was cut off', (bytes) => bytes.subarray(0, -7), 'is not whole'],
    [
      'another version',
      (bytes) => Buffer.from(bytes.toString('latin1').replace('/1', '/9'), 'latin1'),
      'version',
    ],
    ['a file that is no backup', () => Buffer.from('text'), 'is no backup'],
    [
      'a changed bit',
      (bytes) => Buffer.from(bytes.map((byte, i) => (i === 200 ? byte ^ 4 : byte))),
      'byte 51',
    ],
  ])('%s', async (_, change, words) => {
    const other = await inFolder('other.backup')
    await writeFile(other, change(await readFile(file)))
    const home = await inFolder('new')
    await expectRefused(await restore(other, home, '--public-model', await tinyModel()), home, words)
  })

  it('to do without the public model, or with another one', async () => {
    const home = await inFolder('new')
    await expectRefused(await restore(file, home), home, 'give --public-model DIR')
    const other = await restore(file, home, '--public-model', SMALL_MODEL)
    await expectRefused(other, home, 'of the charter of "Test"')
  })

  it('a folder that exists', async () => {
    const home = await folder()
    const ended = await restore(file, home, '--public-model', await tinyModel())
    expect(ended.stderr).toContain('restored into a new folder')
    expect(await readdir(home)).toEqual([])
  })
})
