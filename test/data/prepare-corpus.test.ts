import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openCorpus } from '../../src/data/corpus.ts'
import { corpusWarnings } from '../../src/data/corpus-warnings.ts'
import { prepareCorpus, previewCorpus } from '../../src/data/prepare-corpus.ts'
import type { PrepareProgress } from '../../src/data/prepare-progress.ts'
import { ReadingLog, readingLines } from '../../src/data/reading-report.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { cleanUp, folder, SMALL_MODEL } from '../support/folders.ts'

afterAll(cleanUp)

const tokenizer = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))

describe('a prepared corpus', () => {
  const words = (seed: number, count: number): string =>
    Array.from({ length: count }, (_, i) => (Math.imul(seed * 977 + i, 2654435761) >>> 12).toString(36)).join(
      ' ',
    )
  const lines = Array.from({ length: 300 }, (_, i) => `Document ${i}: ${words(i, i % 17)} end.`)

  async function corpusOf(texts: string[], init: Partial<Parameters<typeof prepareCorpus>[0]> = {}) {
    const dir = await folder()
    await writeFile(join(dir, 'a.jsonl'), texts.map((text) => JSON.stringify({ text })).join('\n'))
    return prepareCorpus({ paths: [join(dir, 'a.jsonl')], tokenizer, outDir: join(dir, 'corpus'), ...init })
  }

  const heldOutTexts = async (corpus: Awaited<ReturnType<typeof corpusOf>>): Promise<string[]> =>
    (await corpus.heldOut(1e9)).map(({ tokens }) => tokenizer.decode(tokens))

  it('holds out the same documents whatever their order', async () => {
    const forth = await corpusOf(lines)
    const back = await corpusOf([...lines].reverse())
    expect(forth.stats.train.documents + forth.stats.heldOut.documents).toBe(300)
    expect(forth.stats.heldOut.documents).toBeGreaterThan(3)
    const bytes = async (corpus: typeof forth) =>
      (await corpus.heldOut(1e9)).map(({ tokens }) => tokens.join()).sort()
    const [a, b] = [await bytes(forth), await bytes(back)]
    expect(b).toEqual(a)
    await forth.close()
    await back.close()
  })

  it.each([false, true])(
    'is previewed as it is prepared (independent documents: %s)',
    async (independent) => {
      const prepared = await corpusOf([...lines, ...lines.slice(0, 9)], { independent })
      const preview = await previewCorpus({ paths: prepared.paths, tokenizer, independent })
      expect(preview).toEqual(prepared.stats)
      await prepared.close()
    },
  )

  it('leaves out duplicates', async () => {
    const corpus = await corpusOf([...lines, ...lines])
    expect(corpus.stats.duplicates).toBe(300)
    expect(corpus.stats.train.documents + corpus.stats.heldOut.documents).toBe(300)
    await corpus.close()
  })

  it('leaves out documents that differ from another only in case and white space', async () => {
    const corpus = await corpusOf([
      ...lines,
      ...lines.map((line) => ` ${line.toUpperCase().replaceAll(' ', '\n')}`),
    ])
    expect(corpus.stats.duplicates).toBe(300)
    await corpus.close()
  })

  it('leaves out held-out documents that mostly repeat training text, whichever was read first', async () => {
    const texts = Array.from({ length: 200 }, (_, i) => words(i, 60))
    const plain = await corpusOf(texts)
    const held = await heldOutTexts(plain)
    await plain.close()
    expect(plain.stats.repeated).toBe(0)
    const [leaked, partly] = held as [string, string]
    // Documents that contain another text are training text unless their own hash holds them out.
    const copies = ['0', '1', '2', '3'].map(
      (i) => `${words(1000 + Number(i), 30)} ${leaked} ${words(2000, 9)}`,
    )
    const quotes = copies.map(
      (copy, i) => `${words(3000 + i, 40)} ${partly.split(' ').slice(0, 25).join(' ')} ${copy}`,
    )
    for (const all of [
      [...texts, ...copies, ...quotes],
      [...quotes, ...copies, ...texts],
    ]) {
      const corpus = await corpusOf(all)
      const now = await heldOutTexts(corpus)
      expect(corpus.stats.repeated).toBeGreaterThanOrEqual(1)
      expect(now).not.toContain(leaked)
      expect(now).toContain(partly)
      expect(corpus.stats.heldOutRepeats).toBe(false)
      await corpus.close()
    }
  })

  it('keeps the held-out documents if all of them repeat training text, and warns', async () => {
    const form = words(7, 200)
    const corpus = await corpusOf(Array.from({ length: 100 }, (_, i) => `${i} ${form}`))
    expect(corpus.stats.heldOut.documents).toBeGreaterThan(0)
    expect(corpusWarnings(corpus.stats).map(({ code }) => code)).toContain('held-out-repeats')
    await corpus.close()
  })

  it('holds out parts from anywhere in a single document', async () => {
    const sentences = Array.from({ length: 400 }, (_, i) => `Sentence ${i} says ${words(i, 6)}.\n`)
    const corpus = await corpusOf([sentences.join('')])
    const held = (await heldOutTexts(corpus)).join('')
    const numbers = [...held.matchAll(/Sentence (\d+)/g)].map(([, n]) => Number(n))
    expect(numbers.length).toBeGreaterThan(40)
    expect(numbers.length).toBeLessThan(120)
    expect(Math.min(...numbers)).toBeLessThan(320)
    expect(corpus.stats.train.bytes + corpus.stats.heldOut.bytes).toBe(sentences.join('').length)
    await corpus.close()
  })

  it('turns only a sample of a large text into tokens: the same documents whatever their order', async () => {
    const texts = Array.from({ length: 400 }, (_, i) => words(i, 40))
    const sampled = async (from: string[]) => {
      const corpus = await corpusOf(from, { maxTrainBytes: 20_000 })
      const tokens = tokenizer.decode(await corpus.train.read(0, corpus.train.tokens))
      await corpus.close()
      return { stats: corpus.stats, documents: from.filter((text) => tokens.includes(text)).sort() }
    }
    const whole = await corpusOf(texts)
    await whole.close()
    const forth = await sampled(texts)
    const back = await sampled([...texts].reverse())
    expect(forth.documents).toEqual(back.documents)
    const { train, heldOut, unsampled, reading } = forth.stats
    expect(train.bytes).toBeLessThan(1.25 * 20_000)
    const all400 = whole.stats.train.bytes + whole.stats.heldOut.bytes
    expect(train.documents + heldOut.documents + unsampled.documents).toBe(400)
    expect(train.bytes + heldOut.bytes + unsampled.bytes).toBe(all400)
    expect(heldOut.bytes).toBeLessThan((1.25 * 20_000) / 8)
    expect(reading.documents).toMatchObject([{ what: 'unsampled', count: unsampled.documents }])
    const use = { steps: 10, tokens: 1000 }
    const warning = corpusWarnings(forth.stats, use).find(({ code }) => code === 'unread-text')
    const all = train.tokens + Math.round((unsampled.bytes * train.tokens) / train.bytes)
    expect(warning?.message).toBe(
      `10 steps read ${((100 * 1000) / all).toPrecision(2)} % of the text, 1000 of about ${all} tokens; --steps ${Math.ceil(all / 100)} reads as many tokens as the text has`,
    )
    const more = corpusWarnings(forth.stats, { steps: 1000, tokens: all })
    expect(more.find(({ code }) => code === 'unread-text')?.message).toMatch(
      /prepared a sample for fewer steps/,
    )
  })

  it('writes the same corpus with and without a sample if the text is small', async () => {
    const [whole, sampled] = [await corpusOf(lines), await corpusOf(lines, { maxTrainBytes: 1e6 })]
    expect(sampled.stats).toEqual(whole.stats)
    expect(await sampled.train.read(0, 1e6)).toEqual(await whole.train.read(0, 1e6))
    expect(await sampled.heldOut(1e9)).toEqual(await whole.heldOut(1e9))
    await Promise.all([whole.close(), sampled.close()])
  })

  it('names the files of documents that are left out, and counts those that almost repeat others', async () => {
    const note = words(5, 80)
    const forms = Array.from({ length: 100 }, (_, i) => `${note} ${words(100 + i, 3)}`)
    const corpus = await corpusOf([...lines, ...lines.slice(0, 7), ...forms])
    const { nearDuplicates, reading, repeated, train } = corpus.stats
    await corpus.close()
    expect(reading.documents).toEqual([
      { what: 'duplicate', count: 7, first: ['a.jsonl'] },
      { what: 'repeated', count: repeated, first: ['a.jsonl'] },
    ])
    expect(nearDuplicates).toBeGreaterThan(80)
    const codes = corpusWarnings({ ...corpus.stats, train: { ...train, documents: 110 } }).map(
      ({ code }) => code,
    )
    expect(codes).toContain('near-duplicates')
  })

  it('names files whose text an earlier conversion has damaged', async () => {
    const corpus = await corpusOf([
      ...lines,
      'Gr\ufffd\ufffde',
      'Gr\u00c3\u00b6e sp\u00c3\u00a4ter',
      '\u00e2\u20ac\u0153x',
    ])
    await corpus.close()
    expect(corpus.stats.reading.damaged).toEqual([
      { what: 'lost-characters', count: 1, first: ['a.jsonl'] },
      { what: 'wrong-characters', count: 2, first: ['a.jsonl'] },
    ])
    expect(readingLines(corpus.stats.reading).at(-1)).toMatch(
      /^look at: 1 document with U\+FFFD, .*; 2 documents with/,
    )
  })

  it('keeps what was read and left out, and the column, for later', async () => {
    const dir = await folder()
    await writeFile(
      join(dir, 'a.csv'),
      `id,note\n${lines.map((line, i) => `${i},${line}`).join('\n')}\n999,\n`,
    )
    const init = { paths: [dir], tokenizer, outDir: join(dir, '.corpus'), column: 'note' }
    const prepared = await prepareCorpus(init)
    await prepared.close()
    const opened = await openCorpus(init.outDir, tokenizer)
    await opened.close()
    expect(opened.column).toBe('note')
    expect(opened.stats).toEqual(prepared.stats)
    expect(opened.stats.reading).toMatchObject({
      read: [{ what: '.csv', count: 1 }],
      columns: [{ what: 'note', count: 1 }],
      withoutText: [{ what: 'rows', count: 1 }],
    })
  })

  it('opens a folder that an earlier version prepared', async () => {
    const dir = await folder()
    await writeFile(join(dir, 'a.jsonl'), lines.map((text) => JSON.stringify({ text })).join('\n'))
    const outDir = join(dir, 'corpus')
    await (await prepareCorpus({ paths: [join(dir, 'a.jsonl')], tokenizer, outDir })).close()
    const path = join(outDir, 'corpus.json')
    const index = JSON.parse(await readFile(path, 'utf8')) as { stats: Record<string, unknown> }
    for (const name of ['reading', 'unsampled', 'nearDuplicates']) delete index.stats[name]
    await writeFile(path, JSON.stringify(index))
    const opened = await openCorpus(outDir, tokenizer)
    await opened.close()
    expect(opened.column).toBeUndefined()
    expect(opened.stats).toMatchObject({ nearDuplicates: 0, unsampled: { documents: 0, bytes: 0 } })
  })

  it('refuses a column if no file has columns', async () => {
    const dir = await folder()
    await writeFile(join(dir, 'a.txt'), lines.join('\n'))
    const init = { paths: [join(dir, 'a.txt')], tokenizer, outDir: join(dir, 'corpus'), column: 'note' }
    await expect(prepareCorpus(init)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(/--column note: expected a table .*leave out --column/),
    })
  })

  it('reports its progress in bytes, up to all of them', async () => {
    const reports: PrepareProgress[] = []
    const onProgress = (report: PrepareProgress): void => void reports.push(report)
    const corpus = await corpusOf(lines, { onProgress, maxTrainBytes: 1e6 })
    await corpus.close()
    for (const stage of ['reading', 'tokenizing']) {
      const last = reports.filter((report) => report.stage === stage).at(-1)
      expect(last?.done).toBe(last?.total)
      expect(last?.done).toBeGreaterThan(1000)
    }
  })

  it('refuses less text than the minimum, and states how much was found and how much is needed', async () => {
    await expect(corpusOf(lines, { minTrainTokens: 100_000 })).rejects.toThrow(
      /too little text .*: \d+ tokens \(\d+ bytes\) to train on, at least 100000 tokens are needed/,
    )
    await expect(corpusOf(['tiny'])).rejects.toThrow(/cannot be split/)
  })

  it('warns about text that makes scores noisy, and about a language that the tokenizer does not know', async () => {
    const side = { documents: 10, tokens: 1e6, bytes: 3e6 }
    const good = {
      train: side,
      heldOut: side,
      duplicates: 2,
      nearDuplicates: 0,
      repeated: 1,
      heldOutRepeats: false,
      unsampled: { documents: 0, bytes: 0 },
      converted: [],
      reading: new ReadingLog().report(),
    }
    expect(corpusWarnings(good)).toEqual([])
    const codes = (changed: Partial<typeof good>) =>
      corpusWarnings({ ...good, ...changed }).map(({ code }) => code)
    expect(codes({ train: { ...side, tokens: 20_000, bytes: 60_000 } })).toEqual(['little-text'])
    expect(codes({ heldOut: { documents: 1, tokens: 1000, bytes: 3000 } })).toEqual(['little-held-out'])
    expect(codes({ duplicates: 21 })).toEqual(['duplicates'])
    const chinese = Array.from({ length: 60 }, (_, i) =>
      String.fromCodePoint(
        ...Array.from({ length: 300 }, (_, j) => 0x4e00 + ((i * 7919 + j * j * 31) % 5000)),
      ),
    )
    const corpus = await corpusOf(chinese)
    const warning = corpusWarnings(corpus.stats).find(({ code }) => code === 'tokenizer')
    expect(warning?.message).toMatch(/^[01]\.\d\d bytes per token/)
    await corpus.close()
  })
})
