/** The folders of benchmark corpora: reading them, and each step that builds them, on made-up inputs. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { domainsOf, readSplit } from '../scripts/corpora/load.ts'

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
  it('gives its domains, public first, and the texts of a split in order', async () => {
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

  it('says what is missing', async () => {
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
    await expect(readSplit(dir, 'math', 'val')).rejects.toThrow(/val\.jsonl\.gz is not a whole gzip archive/)
  })
})
