/** Reading folders of corpora, and every step that builds them, on made-up inputs. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { domainsOf, readSplit } from '../../scripts/corpora/load.ts'
import { fetchPackage } from '../../scripts/corpora/packages.ts'
import { DOMAINS } from '../../scripts/corpora/sources.ts'
import { cutText, piecesOf, SPLIT_RULE, splitPieces } from '../../scripts/corpora/splitter.ts'

let dir: string

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flexmesh-corpora-'))
})

afterEach(async () => {
  await rm(dir, { recursive: true, force: true })
})

async function put(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(join(dir, path)), { recursive: true })
  await writeFile(join(dir, path), content)
}

async function putDomain(domain: string): Promise<void> {
  for (const split of ['train', 'val', 'test']) {
    await put(`${domain}/${split}.jsonl.gz`, gzipSync(`${JSON.stringify({ text: `${domain} ${split}` })}\n`))
  }
}

describe('a folder of corpora', () => {
  it('has domains, public first, and splits with texts in the order of the file', async () => {
    await Promise.all(['math', 'public', 'code'].map(putDomain))
    await put('manifest.json', '{}')
    await put('downloads/a.deb', 'no domain')
    await put('math/val.jsonl.gz', gzipSync('{"text":"one"}\n\n{"id":"x","text":"two\u2028lines"}'))
    expect(await domainsOf(dir)).toEqual(['public', 'code', 'math'])
    expect(await readSplit(dir, 'math', 'val')).toEqual(['one', 'two\u2028lines'])
    await rm(join(dir, 'code/test.jsonl.gz'))
    await put('code/test.jsonl', '{"text":"plain"}\r\n')
    expect(await readSplit(dir, 'code', 'test')).toEqual(['plain'])
  })

  it('is refused with the name of what is missing', async () => {
    await expect(domainsOf(join(dir, 'nowhere'))).rejects.toThrow(/nowhere is not a folder/)
    await expect(readSplit(join(dir, 'nowhere'), 'a', 'val')).rejects.toThrow(/nowhere is not a folder/)
    await putDomain('math')
    await expect(domainsOf(dir)).rejects.toThrow(/has no domain "public" \(found: math\)/)
    await expect(readSplit(dir, 'law', 'val')).rejects.toThrow(/has no domain "law" \(folders: math\)/)
    await putDomain('public')
    await rm(join(dir, 'math/test.jsonl.gz'))
    await expect(domainsOf(dir)).rejects.toThrow(/math has no test\.jsonl\.gz and no test\.jsonl/)
    await expect(readSplit(dir, 'math', 'test')).rejects.toThrow(/math has no test\.jsonl\.gz/)
  })

  it.each([
    ['{"text":"a"}\nno json', /val\.jsonl line 2: expected a JSON object/],
    ['{"text":"a"}\n{"body":"b"}', /val\.jsonl line 2: expected a field "text"/],
    ['\n{"text":1}', /val\.jsonl line 2: expected a field "text"/],
    ['null', /val\.jsonl line 1: expected a field "text"/],
    ['\n', /val\.jsonl holds no document/],
  ])('names file and line of what is no document: %j', async (content, message) => {
    await put('math/val.jsonl', content)
    await expect(readSplit(dir, 'math', 'val')).rejects.toThrow(message)
  })

  it('refuses an archive that was cut short', async () => {
    await put('math/val.jsonl.gz', gzipSync('{"text":"one"}\n').subarray(0, 20))
    await expect(readSplit(dir, 'math', 'val')).rejects.toThrow(
      /val\.jsonl\.gz is not a complete gzip archive/,
    )
  })
})

describe('the splitter', () => {
  const words = (seed: number, count: number): string =>
    Array.from({ length: count }, (_, i) => `w${Math.imul(seed * 1000 + i, 2654435761) >>> 8}`).join(' ')

  it('cuts long texts at line ends and keeps every line', () => {
    const short = 'x'.repeat(SPLIT_RULE.cutAboveCharacters)
    expect(cutText(short)).toEqual([short])
    const lines = Array.from({ length: 400 }, (_, i) => words(i, 12))
    const pieces = cutText(lines.join('\n'))
    expect(pieces.length).toBeGreaterThan(4)
    expect(pieces.flatMap((piece) => piece.split('\n'))).toEqual(lines)
    for (const piece of pieces) expect(piece.length).toBeLessThanOrEqual(SPLIT_RULE.pieceCharacters)
    const one = cutText(words(1, 5000))
    expect(one.join(' ')).toBe(words(1, 5000))
  })

  it('uses whole documents up to the cap, and groups pieces in pairs if there are few documents', () => {
    const book = { id: 'book', text: Array.from({ length: 600 }, (_, i) => words(i, 12)).join('\n') }
    const groups = piecesOf([book], 1e9).map(({ group }) => group)
    expect(groups.slice(0, 5)).toEqual(['book#0', 'book#0', 'book#1', 'book#1', 'book#2'])
    const many = Array.from({ length: 700 }, (_, i) => ({ id: `d${i}`, text: words(i, 20) }))
    const taken = piecesOf(many, 50_000)
    expect(taken.reduce((sum, { text }) => sum + text.length, 0)).toBeLessThanOrEqual(50_000)
    expect(taken.map(({ group }) => group).sort()).toEqual(
      piecesOf([...many].reverse(), 50_000)
        .map(({ group }) => group)
        .sort(),
    )
  })

  it('fills val and test by hash in any order of documents, and drops pieces that repeat train', () => {
    const pieces = Array.from({ length: 1200 }, (_, i) => ({ text: words(i, 120), group: `g${i}` }))
    const split = splitPieces(pieces)
    const bytes = (some: readonly { text: string }[]) => some.reduce((sum, { text }) => sum + text.length, 0)
    for (const name of ['val', 'test'] as const) {
      expect(bytes(split[name])).toBeGreaterThan(SPLIT_RULE.heldOutBytes)
      expect(bytes(split[name])).toBeLessThan(SPLIT_RULE.heldOutBytes + 2000)
    }
    expect(split.dropped).toEqual({ val: 0, test: 0 })
    expect(splitPieces([...pieces].reverse())).toEqual(split)
    const [copied] = split.val as [{ text: string; group: string }]
    const copy = { text: copied.text.toUpperCase().replaceAll(' ', '\n'), group: split.train[0]?.group ?? '' }
    const leaky = splitPieces([...pieces, copy])
    expect(leaky.dropped.val + leaky.dropped.test).toBe(1)
    expect(leaky.val).not.toContainEqual(copied)
  })
})

describe('fetching packages', () => {
  it('does not download an archive that is present, and reads its version from the name', async () => {
    await put('python3-django_3%3a3.2.25-0_all.deb', 'archive')
    const wanted = { registry: 'debian', name: 'python3-django', version: '3:3.2.25-1' } as const
    const said: string[] = []
    const fetched = await fetchPackage(wanted, dir, (line) => said.push(line))
    expect(fetched.version).toBe('3:3.2.25-0')
    expect(fetched.sha256).toMatch(/^[0-9a-f]{64}$/)
    expect(said).toEqual([])
  })

  it('names the program that is missing', async () => {
    const { PATH } = process.env
    process.env['PATH'] = dir
    try {
      for (const [registry, program] of [
        ['debian', 'apt-get'],
        ['npm', 'npm'],
      ] as const) {
        const wanted = { registry, name: 'some-package', version: '1' }
        await expect(fetchPackage(wanted, dir, () => undefined)).rejects.toThrow(
          `${program} is not installed`,
        )
      }
    } finally {
      process.env['PATH'] = PATH
    }
  })

  it('states a licence for every source and a version for every package', () => {
    expect(Object.keys(DOMAINS)).toEqual([
      'public',
      'biomed',
      'code',
      'fiction',
      'law-fr',
      'math',
      'religion',
    ])
    for (const { licence, packages } of Object.values(DOMAINS).flat()) {
      expect(licence).not.toBe('')
      for (const { version } of packages) expect(version).toMatch(/^\d/)
    }
  })
})
