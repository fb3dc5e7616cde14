import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { corpusWarnings } from '../../src/data/corpus-warnings.ts'
import { prepareCorpus } from '../../src/data/prepare-corpus.ts'
import { ReadingLog } from '../../src/data/reading-report.ts'
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
