import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { prepareCorpus } from '../src/data/corpus.ts'
import { type Document, readDocuments } from '../src/data/readers.ts'
import { windowSampler } from '../src/data/token-file.ts'
import { Tokenizer } from '../src/data/tokenizer.ts'
import { cleanUp, EXAMPLES, folder, SMALL_MODEL } from './support/network.ts'
import { codeOfAsync } from './support/packages.ts'

afterAll(cleanUp)

const tokenizer = Tokenizer.load(new Uint8Array(await readFile(join(SMALL_MODEL, 'tokenizer.json'))))

async function textsOf(...files: [name: string, content: string | Uint8Array][]): Promise<string[]> {
  const dir = await folder()
  for (const [name, content] of files) await writeFile(join(dir, name), content)
  const found: Document[] = []
  for await (const document of readDocuments([dir])) found.push(document)
  return found.map(({ text }) => text)
}

describe('reading text', () => {
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
  const lines = Array.from({ length: 300 }, (_, i) => `Document ${i}: ${'word '.repeat(i % 17)}end.`)

  async function corpusOf(texts: string[]) {
    const dir = await folder()
    await writeFile(join(dir, 'a.jsonl'), texts.map((text) => JSON.stringify({ text })).join('\n'))
    return prepareCorpus({ paths: [join(dir, 'a.jsonl')], tokenizer, outDir: join(dir, 'corpus') })
  }

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

  it('samples windows as a function of seed and number alone', async () => {
    const corpus = await corpusOf(lines)
    const sample = windowSampler(corpus.train, 33, 5)
    expect(await sample(4)).toEqual(await windowSampler(corpus.train, 33, 5)(4))
    expect(await sample(4)).not.toEqual(await sample(5))
    expect((await sample(4)).length).toBe(33)
    await corpus.close()
  })
})
