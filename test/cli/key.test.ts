/** The commands `key show|delegate|rotate|revoke` in a consortium of one, with the institution key outside of the home. */
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { type Ended, flexmesh } from '../support/command-line.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { tinyModel } from '../support/tiny-model.ts'

interface Shown {
  readonly seat: string
  readonly institutionKey: string
  readonly institutionKeyFile: string | null
  readonly nodeKey: string | null
  readonly homeKey: string
  readonly isRuling: boolean
  readonly next: string | null
  readonly scopes: readonly string[]
}

afterAll(cleanUp)

/** Runs a command on one home, which has to succeed. */
type Run = (...args: string[]) => Promise<string>

/** A new home and the file of its institution key; the founder of a consortium. */
async function founder(outside: boolean): Promise<{ home: string; file: string; run: Run }> {
  const dir = await folder()
  const [home, file] = [join(dir, 'home'), join(dir, 'stick.key')]
  const run: Run = async (...args) => {
    const { code, stdout, stderr } = await flexmesh(...args, '--home', home)
    if (code !== 0) throw new Error(`flexmesh ${args.join(' ')}: ${stderr}`)
    return stdout
  }
  const keys = outside ? ['--institution-key', file] : []
  await run(
    'init',
    '--institution',
    'Hospital',
    '--insecure',
    '--no-mdns',
    '--listen',
    '/ip4/127.0.0.1/tcp/0',
    ...keys,
  )
  await run('consortium', 'create', '--public-model', await tinyModel(), '--name', 'Test')
  return { home, file, run }
}

const shown = async (run: Run): Promise<Shown> => JSON.parse(await run('key', 'show', '--json')) as Shown

async function expectRefused(ended: Promise<Ended>, words: RegExp): Promise<void> {
  const { code, stdout, stderr } = await ended
  expect([code === 0, stdout]).toEqual([false, ''])
  expect(stderr).toMatch(words)
}

describe('flexmesh key', () => {
  it('rotates the institution key, ends the node key and names another one, and says so', async () => {
    const { home, file, run } = await founder(true)
    const first = await shown(run)
    expect(first).toMatchObject({ institutionKeyFile: file, isRuling: true, nodeKey: first.homeKey })
    expect(first.institutionKey).toBe(first.seat)
    expect(await run('status')).toMatch(
      new RegExp(`peer id +${first.seat}\nnode key +${first.homeKey} until `),
    )
    expect(await run('key', 'rotate')).toMatch(/^the institution key is 12D3KooW\w+ now, in /)
    const rotated = await shown(run)
    expect(rotated).toMatchObject({ seat: first.seat, nodeKey: first.nodeKey, isRuling: true })
    expect(rotated.institutionKey).not.toBe(first.institutionKey)
    expect(rotated.next).not.toBe(first.next)
    expect((await stat(`${file}.replaced`)).isFile()).toBe(true)
    expect(await run('key', 'revoke')).toContain('the node key has ended')
    expect(await shown(run)).toMatchObject({ seat: first.seat, nodeKey: null, isRuling: false })
    expect(await run('status')).toContain('PROBLEM: the key of this home does not rule its seat')
    expect(await run('key', 'delegate', '--days', '30', '--scopes', 'packages,witness')).toMatch(
      /^the key of this node is 12D3KooW\w+ until /,
    )
    const named = await shown(run)
    expect(named).toMatchObject({ seat: first.seat, scopes: ['packages', 'witness'], isRuling: true })
    expect([first.nodeKey, null]).not.toContain(named.nodeKey)
    expect(await run('status')).toMatch(
      /to do: the key of this node ends in (29|30) days; .*flexmesh key delegate/,
    )
    await expectRefused(
      flexmesh('key', 'delegate', '--scopes', 'everything', '--home', home),
      /--scopes: expected some of governance, packages, witness, got "everything"/,
    )
  })

  it('confirms the key of a node by a file that is signed where the institution key is', async () => {
    const { home, file, run } = await founder(true)
    const before = await shown(run)
    const request = join(await folder(), 'request.json')
    expect(await run('key', 'request', request, '--days', '700', '--scopes', 'packages')).toContain(
      `asks the institution key ${before.seat} to confirm the key of this node, as statement 2`,
    )
    await expectRefused(flexmesh('key', 'accept', request, '--home', home), /has not signed/)
    const read = await flexmesh('key', 'sign', request)
    expect(read.stdout).toMatch(/for packages\nthis has signed nothing/)
    await expectRefused(
      flexmesh('key', 'sign', request, '--institution-key', `${file}.next`),
      /expected the institution key 12D3KooW\w+, which rules this seat/,
    )
    expect(await flexmesh('key', 'sign', request, '--institution-key', file)).toMatchObject({ code: 0 })
    expect(await run('key', 'accept', request)).toMatch(
      /^the key of this node is 12D3KooW\w+ until .*, for packages\n$/,
    )
    expect(await shown(run)).toMatchObject({ nodeKey: before.nodeKey, scopes: ['packages'], isRuling: true })
    await expectRefused(
      flexmesh('key', 'accept', request, '--home', home),
      /run "flexmesh key request FILE --home [^"]+" again/,
    )
    const text = await readFile(request, 'utf8')
    await writeFile(request, text.replace(/"sig":"./g, '"sig":"A'))
    await expectRefused(flexmesh('key', 'sign', request, '--institution-key', file), /does not verify/)
  })

  it('moves the key of a home of before to a file, which then has a next key to rotate to', async () => {
    const { home, file, run } = await founder(false)
    const before = await shown(run)
    expect(before).toMatchObject({ institutionKeyFile: null, nodeKey: null, isRuling: true, next: null })
    await expectRefused(flexmesh('key', 'rotate', '--home', home), /give --institution-key FILE/)
    await expectRefused(
      flexmesh('key', 'rotate', '--home', home, '--institution-key', file),
      /the home itself holds the institution key/,
    )
    await run('key', 'delegate', '--institution-key', file)
    const after = await shown(run)
    expect(after).toMatchObject({ seat: before.seat, institutionKey: before.seat, institutionKeyFile: file })
    expect(after.next).not.toBeNull()
    await run('key', 'rotate')
    expect((await shown(run)).institutionKey).not.toBe(before.seat)
  })
})
