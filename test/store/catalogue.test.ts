import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import { Catalogue } from '../../src/store/catalogue.ts'
import { rosterKey, type TableName } from '../../src/store/catalogue-keys.ts'
import { codeOfAsync } from '../support/packages.ts'

let home = ''
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'flexmesh-store-'))
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

/** Every table; a name that is missing here does not compile. */
const TABLES: Readonly<Record<TableName, true>> = {
  rosters: true,
  heads: true,
  verdicts: true,
  judgings: true,
  arrivals: true,
  sketches: true,
  withdrawing: true,
  exports: true,
  seen: true,
  settings: true,
  keys: true,
  invites: true,
  requests: true,
  governance: true,
  forks: true,
  tiles: true,
  checkpoints: true,
  witnessed: true,
  witnessKeys: true,
}

describe('the catalogue', () => {
  it('keeps its tables apart: the same key in each of them is another entry', async () => {
    const catalogue = await Catalogue.open(home)
    const names = Object.keys(TABLES) as TableName[]
    for (const name of names) await catalogue.put(name, 'same', utf8(name))
    for (const name of names) expect(await catalogue.entries(name)).toEqual([['same', utf8(name)]])
    await catalogue.close()
  })

  const statement = (publisher: string, seq: number, text = `${publisher} ${seq}`) => ({
    publisher,
    seq,
    digest: digestOf(utf8(text)),
    envelope: utf8(text),
  })

  it('returns the values of each table after it was closed and opened again', async () => {
    const first = await Catalogue.open(home)
    await first.put('heads', 'anna', utf8('head'))
    await first.put('verdicts', 'anna', utf8('verdict'))
    await first.put('rosters', rosterKey(10), utf8('ten'))
    await first.put('rosters', rosterKey(9), utf8('nine'))
    await first.delete('verdicts', 'anna')
    await first.close()
    const second = await Catalogue.open(home)
    expect(await second.get('heads', 'anna')).toEqual(utf8('head'))
    expect(await second.get('verdicts', 'anna')).toBeUndefined()
    const rosters = await second.entries('rosters')
    expect(rosters).toEqual([
      [rosterKey(9), utf8('nine')],
      [rosterKey(10), utf8('ten')],
    ])
    await second.close()
  })

  it("returns each publisher's statements in order", async () => {
    const catalogue = await Catalogue.open(home)
    for (let seq = 1; seq <= 12; seq++) await catalogue.append(statement('anna', seq))
    await catalogue.append(statement('annabel', 1), [{ table: 'heads', key: 'annabel', value: utf8('h') }])
    const bytes = Array.from({ length: 12 }, (_, i) => statement('anna', i + 1).envelope.length)
    const size = bytes.reduce((sum, one) => sum + one, 0)
    expect(await catalogue.tip('anna')).toEqual({
      seq: 12,
      digest: statement('anna', 12).digest,
      bytes: size,
    })
    expect(await catalogue.tip('berta')).toBeUndefined()
    expect([...(await catalogue.tips()).keys()]).toEqual(['anna', 'annabel'])
    expect(await catalogue.log('anna', 9, 3)).toEqual([9, 10, 11].map((seq) => statement('anna', seq)))
    expect((await catalogue.log('anna', 1, 100)).length).toBe(12)
    expect(await catalogue.statement(statement('anna', 3).digest)).toEqual(utf8('anna 3'))
    expect(await catalogue.get('heads', 'annabel')).toEqual(utf8('h'))
    await catalogue.close()
  })

  it('accepts one statement per number, and only the next number', async () => {
    const catalogue = await Catalogue.open(home)
    expect(await catalogue.append(statement('anna', 1))).toBe(true)
    expect(await catalogue.append(statement('anna', 1))).toBe(false)
    const change = [{ table: 'heads', key: 'anna', value: utf8('h') }] as const
    expect(await codeOfAsync(() => catalogue.append(statement('anna', 1, 'other'), change))).toBe('forked')
    expect(await codeOfAsync(() => catalogue.append(statement('anna', 3), change))).toBe('replayed')
    expect(await codeOfAsync(() => catalogue.append(statement('anna', 0), change))).toBe('replayed')
    expect([await catalogue.tip('anna'), await catalogue.get('heads', 'anna')]).toEqual([
      { seq: 1, digest: statement('anna', 1).digest, bytes: statement('anna', 1).envelope.length },
      undefined,
    ])
    await catalogue.close()
  })

  it('accepts one of two concurrent statements with one number', async () => {
    const catalogue = await Catalogue.open(home)
    const results = await Promise.allSettled([
      catalogue.append(statement('anna', 1, 'a')),
      catalogue.append(statement('anna', 1, 'b')),
    ])
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
    await catalogue.close()
  })

  it('writes a batch as a whole or not at all', async () => {
    const catalogue = await Catalogue.open(home)
    const bad = [
      { table: 'settings', key: 'a', value: utf8('1') },
      { table: 'settings', key: 'b!c' },
    ] as const
    expect(await codeOfAsync(() => catalogue.write(bad))).toBe('bad-field')
    expect(await catalogue.entries('settings')).toEqual([])
    await catalogue.close()
  })

  it('refuses keys that could reach another table', async () => {
    const catalogue = await Catalogue.open(home)
    for (const key of ['', 'a!b', 'a b', 'ä', 'a\0', 'x'.repeat(129)]) {
      expect(await codeOfAsync(() => catalogue.put('settings', key, utf8('v')))).toBe('bad-field')
    }
    await catalogue.close()
  })

  it('returns one state of everything while it is written, which another catalogue takes', async () => {
    const catalogue = await Catalogue.open(home)
    await catalogue.append(statement('anna', 1))
    await catalogue.put('settings', 'a', utf8('before'))
    const entries: [string, Uint8Array][] = []
    for await (const entry of catalogue.snapshot()) {
      if (entries.length === 0) {
        await catalogue.append(statement('anna', 2))
        await catalogue.put('settings', 'a', utf8('after'))
      }
      entries.push(entry)
    }
    await catalogue.close()
    const copy = await Catalogue.open(join(home, 'copy'))
    await copy.writeSnapshot(entries)
    expect(await copy.get('settings', 'a')).toEqual(utf8('before'))
    expect(await copy.log('anna', 1, 10)).toEqual([statement('anna', 1)])
    expect((await copy.tip('anna'))?.seq).toBe(1)
    await copy.close()
  })

  it('refuses a home that is in use, and says what to do', async () => {
    const catalogue = await Catalogue.open(home)
    expect(await codeOfAsync(() => Catalogue.open(home))).toBe('home-in-use')
    await expect(Catalogue.open(home)).rejects.toThrow(
      new RegExp(`^\\S+ is in use by "flexmesh" \\(process ${process.pid}\\); wait until it ends`),
    )
    await catalogue.close()
    await (await Catalogue.open(home)).close()
  })
})
