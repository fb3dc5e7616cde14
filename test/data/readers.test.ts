import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { type Document, readDocuments } from '../../src/data/readers.ts'
import { cleanUp, folder } from '../support/folders.ts'
import { codeOfAsync } from '../support/packages.ts'

afterAll(cleanUp)

async function textsOf(...files: [name: string, content: string | Uint8Array][]): Promise<string[]> {
  const dir = await folder()
  for (const [name, content] of files) await writeFile(join(dir, name), content)
  const found: Document[] = []
  for await (const document of readDocuments([dir])) found.push(document)
  return found.map(({ text }) => text)
}

const FRENCH = `L’été dernier, « à l’école », une élève a écrit : « Où est le cœur de la forêt ? » ${'Personne ne répondit. '.repeat(5)}`

/** The text in UTF-16, little-endian unless `big`. */
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

  it('refuses other bytes with the offset of the first one and the command that converts the file', async () => {
    const far = Buffer.concat([Buffer.from('é'.repeat(70_001)), Uint8Array.of(0x62, 0xc3, 0x28)])
    await expect(textsOf(['a.txt', far])).rejects.toThrow(
      /a\.txt is not text .*byte 0xC3 at offset 140003 .*iconv -f ENCODING -t UTF-8 .*"file -i/,
    )
    await expect(textsOf(['a.txt', Uint8Array.of(0x61, 0x62, 0, 0)])).rejects.toThrow(/zero byte at offset 2/)
  })

  it('does not split lines of JSON at other line separators', async () => {
    expect(await textsOf(['a.jsonl', '{"text":"one\u2028two\u0085"}\n'])).toEqual(['one\u2028two\u0085'])
  })

  it('cuts a giant text at blank lines, else at lines, without losing anything', async () => {
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

  it('reads plain text, Markdown, JSON lines, gzipped JSON lines and CSV, sorted by file name', async () => {
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
    ['an empty folder', 'empty', []],
    ['an empty file', 'empty', [['a.txt', '']]],
    ['a binary file', 'not-text', [['a.txt', Uint8Array.of(0x7f, 0x45, 0, 0, 1, 2)]]],
    ['bytes that are not UTF-8', 'not-text', [['a.txt', Uint8Array.of(0x61, 0xc3, 0x28, 0x62)]]],
    ['JSON lines without text', 'usage', [['a.jsonl', '{"body":"x"}\n']]],
    ['broken JSON lines', 'not-text', [['a.jsonl', '{"text":\n']]],
    ['CSV without a text column', 'usage', [['a.csv', 'id,body\n1,x\n']]],
    ['a truncated archive', 'not-text', [['a.jsonl.gz', gzipSync('{"text":"packed"}').subarray(0, 22)]]],
    ['UTF-32', 'not-text', [['a.txt', Uint8Array.of(0xff, 0xfe, 0, 0, 0x61, 0, 0, 0)]]],
    [
      'UTF-16 with half a character at its end',
      'not-text',
      [['a.txt', Uint8Array.of(0xff, 0xfe, 0x61, 0, 0x62)]],
    ],
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
    [
      'a sound recording',
      'not-text',
      [['a.txt', Uint8Array.from({ length: 4000 }, (_, i) => (i * i * 31) & 255)]],
    ],
  ] as [string, string, [string, string | Uint8Array][]][])('refuses %s: %s', async (_, code, files) => {
    expect(await codeOfAsync(() => textsOf(...files))).toBe(code)
  })
})
