import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { corpusWarnings } from '../../src/data/corpus-warnings.ts'
import { HeldOutSample } from '../../src/data/held-out-sample.ts'
import { prepareCorpus } from '../../src/data/prepare-corpus.ts'
import { type Document, readDocuments } from '../../src/data/readers.ts'
import { windowSampler } from '../../src/data/token-file.ts'
import { Tokenizer } from '../../src/data/tokenizer.ts'
import { cleanUp, EXAMPLES, folder, SMALL_MODEL } from '../support/network.ts'
import { codeOfAsync } from '../support/packages.ts'

afterAll(cleanUp)

const tokenizer = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))

async function textsOf(...files: [name: string, content: string | Uint8Array][]): Promise<string[]> {
  const dir = await folder()
  for (const [name, content] of files) await writeFile(join(dir, name), content)
  const found: Document[] = []
  for await (const document of readDocuments([dir])) found.push(document)
  return found.map(({ text }) => text)
}

const FRENCH = `L’été dernier, « à l’école », une élève a écrit : « Où est le cœur de la forêt ? » ${'Personne ne répondit. '.repeat(5)}`

/** UTF-16, little-endian unless `big`. */
function utf16(text: string, big = false): Buffer {
  const bytes = Buffer.from(text, 'utf16le')
  return big ? bytes.swap16() : bytes
}

describe('reading text', () => {
  it('recognises UTF-16 with and without a byte order mark, and Windows-1252', async () => {
    const western = Buffer.from(
      FRENCH.replace(/[’œ]/g, (c) => (c === '’' ? '\x92' : '\x9c')),
      'latin1',
    )
    const chinese = '第一条 为了规范活动。\n第二条 本法适用于中国。\n😀'
    expect(
      await textsOf(
        ['a.txt', `\ufeff${FRENCH}`],
        ['b.txt', utf16(`\ufeff${FRENCH}`)],
        ['c.txt', utf16(`\ufeff${FRENCH}`, true)],
        ['d.txt', utf16(FRENCH)],
        ['e.txt', utf16(chinese, true)],
        ['f.txt', western],
        ['g.csv', utf16(`\ufefftext\n"${chinese}"\n`)],
        ['h.jsonl', utf16(`\ufeff${JSON.stringify({ text: FRENCH })}\r\n`)],
      ),
    ).toEqual([FRENCH, FRENCH, FRENCH, FRENCH, chinese, FRENCH, chinese, FRENCH])
  })

  it('refuses other bytes with the offset of the first and what to do', async () => {
    const far = Buffer.concat([Buffer.from('é'.repeat(70_001)), Uint8Array.of(0x62, 0xc3, 0x28)])
    await expect(textsOf(['a.txt', far])).rejects.toThrow(
      /a\.txt is not text .*byte 0xC3 at offset 140003 .*iconv -f ENCODING -t UTF-8 .*"file -i/,
    )
    await expect(textsOf(['a.txt', Uint8Array.of(0x61, 0x62, 0, 0)])).rejects.toThrow(/zero byte at offset 2/)
  })

  it('keeps lines of JSON whole that hold other separators of lines', async () => {
    expect(await textsOf(['a.jsonl', '{"text":"one\u2028two\u0085"}\n'])).toEqual(['one\u2028two\u0085'])
  })

  it('cuts a giant text at blank lines, then at lines, and loses nothing', async () => {
    const paragraph = (i: number): string => `Paragraph ${i}\n${`line ${i} of it\n`.repeat(40)}\n`
    const giant = Array.from({ length: 3000 }, (_, i) => paragraph(i)).join('')
    const pieces = await textsOf(['a.txt', giant])
    expect(pieces.join('')).toBe(giant)
    expect(Math.max(...pieces.map(({ length }) => length))).toBeLessThanOrEqual(8192)
    expect(pieces.filter((piece) => !piece.startsWith('Paragraph')).length).toBeLessThanOrEqual(2)
    const smileys = await textsOf(['a.jsonl', JSON.stringify({ text: `x${'😀'.repeat(30_000)}` })])
    expect(smileys.length).toBeGreaterThan(5)
    expect(smileys.every((piece) => piece.isWellFormed())).toBe(true)
    const ordinary = 'word '.repeat(6_000)
    expect(await textsOf(['a.txt', ordinary])).toEqual([ordinary])
  })

  it('takes plain text, Markdown, JSON lines, gzipped JSON lines and CSV, in order of name', async () => {
    expect(
      await textsOf(
        ['a.txt', 'plain'],
        ['b.md', '# heading'],
        ['c.jsonl', '{"text":"one"}\n{"text":"two\\nlines"}\n'],
        ['d.jsonl.gz', gzipSync('{"text":"packed"}\n')],
        ['e.csv', 'id,text\n1,"with, comma"\n2,"with ""quotes"""\n'],
        ['f.png', 'skipped'],
      ),
    ).toEqual(['plain', '# heading', 'one', 'two\nlines', 'packed', 'with, comma', 'with "quotes"'])
  })

  it.each([
    ['nothing', 'empty', []],
    ['an empty file', 'empty', [['a.txt', '']]],
    ['a binary file', 'not-text', [['a.txt', Uint8Array.of(0x7f, 0x45, 0, 0, 1, 2)]]],
    ['bytes that are no UTF-8', 'not-text', [['a.txt', Uint8Array.of(0x61, 0xc3, 0x28, 0x62)]]],
    ['JSON lines without text', 'usage', [['a.jsonl', '{"body":"x"}\n']]],
    ['broken JSON lines', 'not-text', [['a.jsonl', '{"text":\n']]],
    ['CSV without a text column', 'usage', [['a.csv', 'id,body\n1,x\n']]],
    ['an archive cut short', 'not-text', [['a.jsonl.gz', gzipSync('{"text":"packed"}').subarray(0, 22)]]],
    ['UTF-32', 'not-text', [['a.txt', Uint8Array.of(0xff, 0xfe, 0, 0, 0x61, 0, 0, 0)]]],
    ['UTF-16 cut in half', 'not-text', [['a.txt', Uint8Array.of(0xff, 0xfe, 0x61, 0, 0x62)]]],
    [
      'UTF-8 with one damaged byte',
      'not-text',
      [['a.txt', Buffer.concat([Buffer.from(FRENCH), Uint8Array.of(0xe9, 0x20)])]],
    ],
    [
      'Polish in ISO 8859-2',
      'not-text',
      [['a.txt', Buffer.from('Ko\xb6ció\xb3 stoi na wzgórzu, a obok p\xb3ynie ma\xb3a rzeka', 'latin1')]],
    ],
    [
      'Russian in KOI8-R',
      'not-text',
      [['a.txt', Uint8Array.from({ length: 300 }, (_, i) => (i % 7 === 6 ? 32 : 0xc1 + (i % 30)))]],
    ],
    ['sound', 'not-text', [['a.txt', Uint8Array.from({ length: 4000 }, (_, i) => (i * i * 31) & 255)]]],
  ] as [string, string, [string, string | Uint8Array][]][])('refuses %s: %s', async (_, code, files) => {
    expect(await codeOfAsync(() => textsOf(...files))).toBe(code)
  })
})

describe('the tokenizer', () => {
  it.each(['hospital', 'archive', 'university'])('gives %s text back byte for byte', async (name) => {
    for await (const { text } of readDocuments([join(EXAMPLES, name, 'text')])) {
      const part = text.slice(0, 20_000)
      const stream = tokenizer.decodeStream()
      expect(Array.from(tokenizer.encode(part), (id) => stream.push(id)).join('') + stream.flush()).toBe(part)
      break
    }
  })
})

describe('a corpus', () => {
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

  it('holds out the same documents whatever their order, and counts', async () => {
    const forth = await corpusOf(lines)
    const back = await corpusOf([...lines].reverse())
    expect(forth.stats.train.documents + forth.stats.heldOut.documents).toBe(300)
    expect(forth.stats.heldOut.documents).toBeGreaterThan(3)
    const bytes = async (corpus: typeof forth) =>
      (await corpus.heldOut(1e9)).map(({ tokens }) => tokens.join()).sort()
    const [a, b] = [await bytes(forth), await bytes(back)]
    // The newest document may move to training, so that there always is one to train on.
    expect(a.filter((text) => b.includes(text)).length).toBeGreaterThanOrEqual(a.length - 1)
    await forth.close()
    await back.close()
  })

  it('drops documents that come twice', async () => {
    const corpus = await corpusOf([...lines, ...lines])
    expect(corpus.stats.duplicates).toBe(300)
    expect(corpus.stats.train.documents + corpus.stats.heldOut.documents).toBe(300)
    await corpus.close()
  })

  it('drops documents that differ from another in case and white space only', async () => {
    const corpus = await corpusOf([
      ...lines,
      ...lines.map((line) => ` ${line.toUpperCase().replaceAll(' ', '\n')}`),
    ])
    expect(corpus.stats.duplicates).toBe(300)
    await corpus.close()
  })

  it('leaves out of held-out what mostly repeats the training text, whichever came first', async () => {
    const texts = Array.from({ length: 200 }, (_, i) => words(i, 60))
    const plain = await corpusOf(texts)
    const held = await heldOutTexts(plain)
    await plain.close()
    expect(plain.stats.repeated).toBe(0)
    const [leaked, partly] = held as [string, string]
    // Documents with a text inside are trained on unless their own hash says otherwise.
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

  it('keeps a held-out that repeats the training text throughout, and says so', async () => {
    const form = words(7, 200)
    const corpus = await corpusOf(Array.from({ length: 100 }, (_, i) => `${i} ${form}`))
    expect(corpus.stats.heldOut.documents).toBeGreaterThan(0)
    expect(corpusWarnings(corpus.stats).map(({ code }) => code)).toContain('held-out-repeats')
    await corpus.close()
  })

  it('holds out parts from anywhere in a lone document', async () => {
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

  it('refuses less text than asked for, with how much there is and how much is needed', async () => {
    await expect(corpusOf(lines, { minTrainTokens: 100_000 })).rejects.toThrow(
      /too little text .*: \d+ tokens \(\d+ bytes\) to train on, at least 100000 tokens are needed/,
    )
    await expect(corpusOf(['tiny'])).rejects.toThrow(/cannot be split/)
  })

  it('warns of what makes numbers noisy, and of a language that the tokenizer does not know', async () => {
    const side = { documents: 10, tokens: 1e6, bytes: 3e6 }
    const good = {
      train: side,
      heldOut: side,
      duplicates: 2,
      repeated: 1,
      heldOutRepeats: false,
      converted: [],
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
    expect(warning?.message).toMatch(/^[01]\.\d\d bytes a token/)
    await corpus.close()
  })

  it('keeps the held-out documents of the smallest hashes when there are too many', () => {
    const sample = new HeldOutSample(100)
    const hash = (i: number): Buffer => Buffer.alloc(32, (i * 37) % 100)
    const evicted = Array.from({ length: 100 }, (_, i) =>
      sample.add(hash(i), `text ${(i * 37) % 100}   `.slice(0, 10)),
    ).flat()
    expect(evicted.length + sample.size).toBe(100)
    const kept = sample.inOrder()
    expect(kept.slice(0, 10)).toEqual(Array.from({ length: 10 }, (_, i) => `text ${i}   `.slice(0, 10)))
  })

  it('samples windows as a function of seed and number alone', async () => {
    const corpus = await corpusOf(lines)
    const sample = windowSampler(corpus.train, 33, 5)
    expect(await sample(4)).toEqual(await windowSampler(corpus.train, 33, 5)(4))
    expect(await sample(4)).not.toEqual(await sample(5))
    expect((await sample(4)).length).toBe(33)
    await corpus.close()
  })
})
