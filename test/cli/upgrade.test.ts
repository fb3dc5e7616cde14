/**
 * A home folder that the program of commit 1eb4c8a made: a founder and a member, an accepted expert of each, and a finished
 * training `later`. Without the public model, which is models/small, and without files that nodes compute again.
 */
import { chmod, copyFile, cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { digestOf } from '../../src/lib/bytes.ts'
import { homePaths } from '../../src/store/home.ts'
import { HOME_VERSION } from '../../src/store/home-version.ts'
import { initialised } from '../support/command-homes.ts'
import { flexmesh } from '../support/command-line.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'

const FIXTURE = fileURLToPath(new URL('../fixtures/home-1eb4c8a/', import.meta.url))
const PASSPHRASE = 'fixture of 1eb4c8a\n'
/** Before the memberships and consents in the folder end. */
const SOON_AFTER = Date.UTC(2026, 11, 1)

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: SOON_AFTER })
})
afterEach(() => {
  vi.useRealTimers()
})
afterAll(cleanUp)

/** A copy of the folder with the modes that it had, and the options that open it. */
async function oldHome(): Promise<{ home: string; options: string[] }> {
  const dir = await folder()
  const home = join(dir, 'home')
  await cp(FIXTURE, home, { recursive: true })
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const isOpen = entry.parentPath.endsWith('catalogue')
    await chmod(path, entry.isDirectory() ? 0o700 : isOpen ? 0o644 : 0o600)
  }
  await chmod(home, 0o700)
  const { publicModel } = homePaths(home)
  await mkdir(publicModel, { mode: 0o700 })
  for (const name of ['config.json', 'model.safetensors', 'replay.jsonl', 'tokenizer.json']) {
    const source = join(SMALL_MODEL, name)
    await copyFile(source, join(publicModel, name))
    const hex = digestOf(await readFile(source)).slice('sha256:'.length)
    await copyFile(source, join(home, 'blobs', hex))
  }
  const secret = join(dir, 'secret')
  await writeFile(secret, PASSPHRASE, { mode: 0o600 })
  return { home, options: ['--home', home, '--passphrase-file', secret] }
}

async function json(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await flexmesh(...args, '--json')
  expect([code, stderr], args.join(' ')).toEqual([0, ''])
  return JSON.parse(stdout) as Record<string, unknown>
}

it('a home folder of an earlier version is upgraded and works', async () => {
  const { home, options } = await oldHome()
  expect(await json('status', ...options)).toMatchObject({
    institution: 'St. Anna Hospital',
    consortium: 'Before',
    members: 2,
    experts: 2,
  })
  expect(await readFile(homePaths(home).version, 'utf8')).toBe(`${HOME_VERSION}\n`)
  for (const name of await readdir(join(home, 'catalogue')))
    expect([name, (await stat(join(home, 'catalogue', name))).mode & 0o077]).toEqual([name, 0])
  const members = (await flexmesh('members', ...options)).stdout
  expect(members).toContain('St. Anna Hospital')
  expect(members).toContain('Archives du Travail')
  // Without an audit: the text is so short that it would find most of it.
  await json('publish', 'later', ...options, '--domain', 'wards', '--no-audit')
  const experts = (await flexmesh('experts', ...options)).stdout
  for (const name of ['Archives du Travail/law', 'St. Anna Hospital/ward', 'St. Anna Hospital/later'])
    expect(experts).toContain(name)
})

describe('the version of a home folder', () => {
  it.each([[['status']], [['start']], [['passphrase', '--insecure']], [['members']]])(
    'is refused if it is newer than the program: %j',
    async (args) => {
      const home = await initialised()
      await writeFile(homePaths(home).version, `${HOME_VERSION + 1}\n`)
      const { code, stdout, stderr } = await flexmesh(...args, '--home', home)
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toBe(
        `flexmesh: ${home} was written by a newer flexmesh: it has version ${HOME_VERSION + 1}, and this program knows versions up to ${HOME_VERSION}; install a newer flexmesh\n`,
      )
    },
  )

  it.each(['', 'two', '0', '-1', '1.5', '2\n3\n'])(
    'is refused if it is not a version: %j',
    async (content) => {
      const home = await initialised()
      await writeFile(homePaths(home).version, content)
      const { code, stderr } = await flexmesh('status', '--home', home)
      expect(code).toBe(2)
      expect(stderr).toContain(`${homePaths(home).version}: expected the version of the home folder`)
    },
  )

  it('is written into new folders', async () => {
    expect(await readFile(homePaths(await initialised()).version, 'utf8')).toBe(`${HOME_VERSION}\n`)
  })

  it('counts as the first one if a folder states none, also in a command that does not open the node', async () => {
    const home = await initialised()
    await rm(homePaths(home).version)
    const { stderr } = await flexmesh('status', '--home', home)
    expect(stderr).toContain('belongs to no consortium')
  })
})
