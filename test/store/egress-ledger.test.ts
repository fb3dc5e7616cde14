import {
  appendFile,
  copyFile,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createIdentity } from '../../src/identity/keys.ts'
import { digestOf, toHex, utf8 } from '../../src/lib/bytes.ts'
import { egressSigner } from '../../src/node/egress.ts'
import { digestOfHashes, type EgressBook } from '../../src/store/egress-book.ts'
import { ForeignJournal } from '../../src/store/egress-foreign.ts'
import type { EgressLedger } from '../../src/store/egress-ledger.ts'
import { type EgressRow, lineOf, parseLine } from '../../src/store/egress-row.ts'
import { encodeHead } from '../../src/store/egress-seals.ts'
import { bookOf, check, DAY, hashOf, NOON, openLedger, type Surroundings } from '../support/egress.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterEach(cleanUp)

async function surroundings(): Promise<Surroundings> {
  return { dir: join(await folder(), 'egress'), clock: { now: NOON }, anchor: undefined }
}

async function opened(around: Surroundings): Promise<{ ledger: EgressLedger; book: EgressBook }> {
  const ledger = await openLedger(around)
  return { ledger, book: bookOf(ledger, around) }
}

/** Rows of the segments, in order. */
async function rowsOf({ dir }: Surroundings): Promise<EgressRow[]> {
  const names = (await readdir(dir)).filter((name) => name.startsWith('rows-')).sort()
  const texts = await Promise.all(names.map((name) => readFile(join(dir, name), 'utf8')))
  return texts
    .flatMap((text) => text.split('\n').filter((line) => line !== ''))
    .map((line) => JSON.parse(line.slice(65)))
}

/** As if the process had been killed: what is on disk is copied, and goes on elsewhere. */
async function killed(around: Surroundings): Promise<Surroundings> {
  const copy = { ...(await surroundings()), anchor: around.anchor, clock: { ...around.clock } }
  const names = await readdir(around.dir)
  await (await import('node:fs/promises')).mkdir(copy.dir, { recursive: true })
  for (const name of names) await copyFile(join(around.dir, name), join(copy.dir, name))
  return copy
}

const FILE = digestOf(utf8('a file'))

describe('the book of what leaves a node', () => {
  it('has one row for the chunks of a file that one receiver gets, with merged runs', async () => {
    const around = await surroundings()
    const { book } = await opened(around)
    for (const chunk of [0, 1, 5, 2, 4]) {
      book.add({ kind: 'file', to: 'A', bytes: 100, file: FILE, chunk, hash: hashOf(`chunk ${chunk}`) })
    }
    book.add({ kind: 'file', to: 'B', bytes: 7, file: FILE, chunk: 9, hash: hashOf('chunk 9') })
    await book.close()
    const rows = (await rowsOf(around)).filter(({ kind }) => kind === 'file')
    expect(rows.map(({ to, bytes, count, chunks }) => ({ to, bytes, count, chunks }))).toEqual([
      {
        to: 'A',
        bytes: 500,
        count: 5,
        chunks: [
          [0, 2],
          [4, 5],
        ],
      },
      { to: 'B', bytes: 7, count: 1, chunks: [[9, 9]] },
    ])
    const inOrder = [0, 1, 2, 4, 5].map((chunk) => hashOf(`chunk ${chunk}`))
    expect(rows[0]?.digest).toBe(digestOfHashes(inOrder))
  })

  it('keeps a chunk that is sent again with other content in a row of its own', async () => {
    const around = await surroundings()
    const { book } = await opened(around)
    for (const content of ['one', 'one', 'other']) {
      book.add({ kind: 'file', to: 'A', bytes: 1, file: FILE, chunk: 0, hash: hashOf(content) })
    }
    await book.close()
    const rows = (await rowsOf(around)).filter(({ kind }) => kind === 'file')
    expect(rows.map(({ count, digest }) => [count, digest])).toEqual([
      [2, digestOfHashes([hashOf('one')])],
      [1, digestOfHashes([hashOf('other')])],
    ])
  })

  it('has a row for each statement, with its digest, and one for many small messages', async () => {
    const around = await surroundings()
    const { book } = await opened(around)
    for (const text of ['a', 'b']) {
      book.add({ kind: 'statement', to: 'A', bytes: 1, hash: hashOf(text), isSingle: true })
      book.add({ kind: 'ping', to: 'A', bytes: 32, hash: hashOf(text) })
    }
    await book.close()
    const rows = await rowsOf(around)
    expect(rows.map(({ kind, bytes, count, digest }) => [kind, bytes, count, digest])).toEqual([
      ['begin', 0, 0, undefined],
      ['statement', 1, 1, `sha256:${toHex(hashOf('a'))}`],
      ['statement', 1, 1, `sha256:${toHex(hashOf('b'))}`],
      ['ping', 64, 2, digestOfHashes([hashOf('a'), hashOf('b')])],
    ])
  })

  it('writes the row of a transfer when it pauses, and that of small messages after an hour', async () => {
    const around = await surroundings()
    const { book } = await opened(around)
    book.add({ kind: 'file', to: 'A', bytes: 1, file: FILE, chunk: 0, hash: hashOf('') })
    book.add({ kind: 'ping', to: 'A', bytes: 1 })
    const kinds = async (seconds: number): Promise<string[]> => {
      around.clock.now += seconds
      await book.persist()
      return (await rowsOf(around)).map(({ kind }) => kind)
    }
    expect(await kinds(9)).toEqual(['begin'])
    expect(await kinds(1)).toEqual(['begin', 'file'])
    expect(await kinds(3590)).toEqual(['begin', 'file', 'ping'])
    await book.close()
  })
})

describe('a ledger that is opened again', () => {
  it('continues its chain, and says nothing after an orderly end', async () => {
    const around = await surroundings()
    for (const to of ['A', 'B']) {
      const { book } = await opened(around)
      book.add({ kind: 'statement', to, bytes: 1, isSingle: true })
      await book.close()
    }
    expect((await rowsOf(around)).map(({ seq, kind, to }) => [seq, kind, to])).toEqual([
      [1, 'begin', '-'],
      [2, 'statement', 'A'],
      [3, 'statement', 'B'],
    ])
    expect(await check(around)).toMatchObject({ rows: 3, fault: undefined, head: { seq: 3 } })
    expect(around.anchor?.seq).toBe(3)
  })

  it('has every row that was persisted before a kill, closed or open, and says that it was killed', async () => {
    const around = await surroundings()
    const { book } = await opened(around)
    book.add({ kind: 'statement', to: 'A', bytes: 1, isSingle: true })
    book.add({ kind: 'file', to: 'A', bytes: 9, file: FILE, chunk: 3, hash: hashOf('') })
    await book.persist()
    book.add({ kind: 'ping', to: 'A', bytes: 32 })
    const copy = await killed(around)
    const ledger = await openLedger(copy)
    await ledger.close()
    expect((await rowsOf(copy)).map(({ kind, bytes, interrupted }) => [kind, bytes, interrupted])).toEqual([
      ['begin', 0, undefined],
      ['statement', 1, undefined],
      ['file', 9, true],
      ['killed', 0, undefined],
    ])
    expect((await check(copy)).fault).toBe(undefined)
    await book.close()
  })

  it('repairs a line that a kill has cut, at every length', async () => {
    const around = await surroundings()
    const { ledger } = await opened(around)
    await ledger.save([{ from: NOON, until: NOON, kind: 'statement', to: 'A', bytes: 1, count: 1 }], [])
    const copy = await killed(around)
    const [segment = ''] = (await readdir(copy.dir)).filter((name) => name.startsWith('rows-'))
    const path = join(copy.dir, segment)
    const whole = await readFile(path)
    const first = whole.indexOf('\n') + 1
    for (let length = first; length < whole.length; length += 29) {
      const again = await killed(copy)
      await truncate(join(again.dir, segment), length)
      await (await openLedger(again)).close()
      const rows = await rowsOf(again)
      expect(rows.map(({ kind }) => kind)).toEqual(['begin', 'statement', 'killed'])
      expect((await check(again)).fault).toBe(undefined)
    }
    await ledger.close()
  })

  it('takes over the rows of a process that could not append, once that has ended', async () => {
    const around = await surroundings()
    const journal = await ForeignJournal.open(around.dir, () => NOON)
    await journal.save([{ from: NOON, until: NOON, kind: 'request', to: 'A', bytes: 5, count: 1 }], [])
    await journal.close()
    await (await openLedger(around)).close()
    await (await openLedger(around)).close()
    expect((await rowsOf(around)).map(({ kind }) => kind)).toEqual(['begin', 'request'])
  })

  it('says in a row of its own that rows are missing, and the gap stays visible', async () => {
    const around = await surroundings()
    const { book } = await opened(around)
    for (let i = 0; i < 5; i++) book.add({ kind: 'statement', to: 'A', bytes: i, isSingle: true })
    await book.close()
    const [segment = ''] = (await readdir(around.dir)).filter((name) => name.startsWith('rows-'))
    const text = await readFile(join(around.dir, segment), 'utf8')
    await writeFile(
      join(around.dir, segment),
      text
        .split('\n')
        .slice(0, 3)
        .map((line) => `${line}\n`)
        .join(''),
    )
    await (await openLedger(around)).close()
    expect((await rowsOf(around)).at(-1)).toMatchObject({ seq: 7, kind: 'damaged' })
    expect((await check(around)).fault).toMatchObject({ seq: 4, what: 'rows 4 to 6 are missing' })
  })
})

describe('removing old rows', () => {
  /** Rows of three days; the second one has a receiver more. */
  async function threeDays(): Promise<Surroundings> {
    const around = await surroundings()
    const { book } = await opened(around)
    for (const [i, to] of ['A', 'B', 'A'].entries()) {
      around.clock.now = NOON + i * DAY
      for (const bytes of [10, 20]) book.add({ kind: 'statement', to, bytes, isSingle: true })
      await book.persist()
    }
    await book.close()
    return around
  }

  it('keeps signed totals, from which the chain continues', async () => {
    const around = await threeDays()
    const ledger = await openLedger(around)
    expect(await ledger.prune(NOON + 1.5 * DAY)).toBe(5)
    expect(await ledger.prune(NOON + 1.5 * DAY)).toBe(0)
    await ledger.close()
    const report = await check(around)
    expect(report).toMatchObject({ rows: 2, fault: undefined, summary: { next: 6, until: NOON + DAY } })
    expect(report.summary?.totals.filter(({ kind }) => kind === 'statement')).toEqual([
      { to: 'A', kind: 'statement', rows: 2, count: 2, bytes: 30, tokens: 0 },
      { to: 'B', kind: 'statement', rows: 2, count: 2, bytes: 30, tokens: 0 },
    ])
  })

  it('adds to the totals when it is repeated, also of all rows', async () => {
    const around = await threeDays()
    const ledger = await openLedger(around)
    await ledger.prune(NOON + 0.5 * DAY)
    expect(await ledger.prune(NOON + 9 * DAY)).toBe(4)
    await ledger.save([{ from: NOON, until: NOON, kind: 'statement', to: 'C', bytes: 1, count: 1 }], [])
    await ledger.close()
    const { rows, summary, fault } = await check(around)
    expect([rows, summary?.next, fault]).toEqual([1, 8, undefined])
    expect(summary?.totals.map(({ to, bytes }) => [to, bytes])).toEqual([
      ['-', 0],
      ['A', 60],
      ['B', 30],
    ])
    await (await openLedger(around)).close()
    expect((await check(around)).fault).toBe(undefined)
  })

  it('finishes after a kill between the summary and the removal', async () => {
    const around = await threeDays()
    const before = await killed(around)
    const ledger = await openLedger(around)
    await ledger.prune(NOON + 1.5 * DAY)
    await ledger.close()
    await copyFile(join(around.dir, 'summary.json'), join(before.dir, 'summary.json'))
    expect(await check(before)).toMatchObject({ rows: 2, fault: undefined })
    await (await openLedger(before)).close()
    expect((await rowsOf(before)).map(({ seq }) => seq)).toEqual([6, 7])
  })

  it('removes nothing if a row is broken', async () => {
    const around = await threeDays()
    const [segment = ''] = (await readdir(around.dir)).filter((name) => name.startsWith('rows-'))
    await appendFile(join(around.dir, segment), 'x')
    const names = await readdir(around.dir)
    const ledger = await openLedger(around)
    await expect(ledger.prune(NOON + 9 * DAY)).rejects.toMatchObject({ code: 'mismatch' })
    await ledger.close()
    expect((await readdir(around.dir)).sort()).toEqual(names.sort())
  })
})

describe('whoever edits the files of a ledger', () => {
  const kept: { around?: Surroundings; files: Map<string, Buffer> } = { files: new Map() }

  beforeAll(async () => {
    const around = await surroundings()
    const ledger = await openLedger(around, 8_000)
    const book = bookOf(ledger, around)
    for (let i = 0; i < 90; i++) {
      around.clock.now = NOON + Math.floor(i / 45) * DAY
      book.add({ kind: 'statement', to: `peer ${i % 7}`, bytes: i, hash: hashOf(`${i}`), isSingle: true })
      await book.persist()
    }
    await ledger.prune(NOON + DAY / 2)
    await book.close()
    for (const name of await readdir(around.dir)) kept.files.set(name, await readFile(join(around.dir, name)))
    kept.around = around
  })
  afterAll(cleanUp)

  /** A folder with the files of the ledger, and what the catalogue remembers. */
  async function copied(files: ReadonlyMap<string, Buffer>): Promise<Surroundings> {
    const around = { ...(kept.around as Surroundings), dir: await folder() }
    for (const [name, bytes] of files) await writeFile(join(around.dir, name), bytes)
    return around
  }

  /** Pseudo-random numbers of a fixed seed (mulberry32). */
  function random(seed: number): (below: number) => number {
    let state = seed
    return (below) => {
      state = (state + 0x6d2b79f5) | 0
      let t = Math.imul(state ^ (state >>> 15), 1 | state)
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
      return ((t ^ (t >>> 14)) >>> 0) % below
    }
  }

  type Edit = (files: Map<string, Buffer>, pick: (below: number) => number) => void
  const choose = (files: ReadonlyMap<string, Buffer>, pick: (below: number) => number): string =>
    [...files.keys()].sort()[pick(files.size)] as string
  const rows = (files: ReadonlyMap<string, Buffer>): Map<string, Buffer> =>
    new Map([...files].filter(([name]) => name.startsWith('rows-')))

  const EDITS: Record<string, Edit> = {
    'changes one bit': (files, pick) => {
      const name = choose(files, pick)
      const bytes = Buffer.from(files.get(name) as Buffer)
      const at = pick(bytes.length)
      bytes[at] = (bytes[at] as number) ^ (1 << pick(8))
      files.set(name, bytes)
    },
    'deletes bytes': (files, pick) => {
      const name = choose(files, pick)
      const bytes = files.get(name) as Buffer
      const at = pick(bytes.length)
      files.set(name, Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + pick(400))]))
    },
    'deletes a row': (files, pick) => {
      const name = choose(rows(files), pick)
      const lines = (files.get(name) as Buffer).toString().split('\n')
      lines.splice(pick(lines.length - 1), 1)
      files.set(name, Buffer.from(lines.join('\n')))
    },
    'inserts a row again': (files, pick) => {
      const name = choose(rows(files), pick)
      const lines = (files.get(name) as Buffer).toString().split('\n')
      lines.splice(pick(lines.length), 0, lines[pick(lines.length - 1)] as string)
      files.set(name, Buffer.from(lines.join('\n')))
    },
    'cuts a file': (files, pick) => {
      const name = choose(files, pick)
      const bytes = files.get(name) as Buffer
      files.set(name, bytes.subarray(0, pick(bytes.length)))
    },
    'cuts the last rows': (files, pick) => {
      const name = [...rows(files).keys()].sort().at(-1) as string
      const lines = (files.get(name) as Buffer).toString().split('\n')
      files.set(
        name,
        Buffer.from(
          lines
            .slice(0, pick(lines.length - 1))
            .map((line) => `${line}\n`)
            .join(''),
        ),
      )
    },
    'removes a file': (files, pick) => {
      files.delete(choose(files, pick))
    },
  }

  it('is found in each of 1,000 random edits, deletions and truncations', async () => {
    const pick = random(17)
    const kinds = Object.keys(EDITS)
    const around = await copied(kept.files)
    expect((await check(around)).fault).toBe(undefined)
    const unnoticed: string[] = []
    for (let i = 0; i < 1000; i++) {
      const kind = kinds[i % kinds.length] as string
      const files = new Map(kept.files)
      ;(EDITS[kind] as Edit)(files, pick)
      for (const [name, bytes] of kept.files) {
        const edited = files.get(name)
        if (edited === undefined) await rm(join(around.dir, name))
        else if (edited !== bytes) await writeFile(join(around.dir, name), edited)
      }
      const { fault } = await check(around)
      if (fault === undefined) unnoticed.push(`${i}: ${kind}`)
      for (const [name, bytes] of kept.files) {
        if (files.get(name) !== bytes) await writeFile(join(around.dir, name), bytes)
      }
    }
    expect(unnoticed).toEqual([])
  })

  it('is told the first row that was changed', async () => {
    const around = await copied(kept.files)
    const [name = ''] = [...rows(kept.files).keys()].sort()
    const lines = (kept.files.get(name) as Buffer).toString().split('\n')
    lines[3] = (lines[3] as string).replace('"bytes":', '"bytes":9')
    await writeFile(join(around.dir, name), lines.join('\n'))
    const first = Number(/\d+/.exec(name)?.[0])
    expect((await check(around)).fault).toMatchObject({ seq: first + 3, where: `${name}:4` })
  })

  it('cannot hide a truncation behind an older head of the same node, or one of another key', async () => {
    const around = await copied(kept.files)
    const last = [...rows(kept.files).keys()].sort().at(-1) as string
    const lines = (kept.files.get(last) as Buffer).toString().split('\n').slice(0, 2)
    await writeFile(join(around.dir, last), lines.map((line) => `${line}\n`).join(''))
    const { seq } = JSON.parse((lines[1] as string).slice(65)) as EgressRow
    const head = encodeHead({ seq, hash: (lines[1] as string).slice(0, 64), signedAt: NOON })
    const { owner } = await import('../support/egress.ts')
    await writeFile(join(around.dir, 'head.json'), egressSigner(owner).seal('head', head))
    expect((await check(around)).fault?.what).toContain('which the anchor names')
    const stranger = createIdentity(new Uint8Array(32).fill(3))
    await writeFile(join(around.dir, 'head.json'), egressSigner(stranger).seal('head', head))
    expect((await check(around)).fault?.what).toContain('signature')
  })

  it('cannot replace a row by another one with a right hash, neither in between nor at the end', async () => {
    const around = await copied(kept.files)
    const last = [...rows(kept.files).keys()].sort().at(-1) as string
    const lines = (kept.files.get(last) as Buffer).toString().split('\n')
    const replaced = async (index: number): Promise<number> => {
      const { row } = parseLine(lines[index] as string)
      const { seq, previous, ...body } = row
      const { text } = lineOf({ ...body, to: 'another peer' }, seq, previous)
      await writeFile(join(around.dir, last), lines.with(index, text).join('\n'))
      return seq
    }
    const seq = await replaced(1)
    expect((await check(around)).fault).toMatchObject({
      seq: seq + 1,
      what: expect.stringContaining('replaced'),
    })
    const end = await replaced(lines.length - 2)
    expect((await check(around)).fault).toMatchObject({
      seq: end,
      what: expect.stringContaining('names another row'),
    })
  })

  it('cannot add rows that fit, while no node runs', async () => {
    const around = await copied(kept.files)
    const last = [...rows(kept.files).keys()].sort().at(-1) as string
    const text = (kept.files.get(last) as Buffer).toString()
    const { row, hash } = parseLine(text.split('\n').at(-2) as string)
    const { seq, previous, ...body } = row
    await appendFile(join(around.dir, last), `${lineOf(body, seq + 1, hash).text}\n`)
    expect((await check(around)).fault).toMatchObject({ seq: seq + 1 })
    await (await openLedger(around)).close()
    expect((await rowsOf(around)).at(-1)).toMatchObject({ kind: 'damaged', seq: seq + 2 })
  })

  it('cannot rename a segment', async () => {
    const around = await copied(kept.files)
    const last = [...rows(kept.files).keys()].sort().at(-1) as string
    await rename(join(around.dir, last), join(around.dir, 'rows-0000000000009999.log'))
    expect((await check(around)).fault).toBeDefined()
  })
})

describe('files of a ledger', () => {
  it('are readable by their owner alone', async () => {
    const before = process.umask(0)
    try {
      const around = await surroundings()
      const { ledger, book } = await opened(around)
      book.add({ kind: 'ping', to: 'A', bytes: 1 })
      await book.flush()
      await ledger.prune(NOON + 9 * DAY)
      await book.persist()
      const modes = await Promise.all(
        (await readdir(around.dir)).map(async (name) => (await stat(join(around.dir, name))).mode & 0o777),
      )
      expect(new Set(modes)).toEqual(new Set([0o600]))
      expect((await stat(around.dir)).mode & 0o777).toBe(0o700)
      await book.close()
    } finally {
      process.umask(before)
    }
  })
})
