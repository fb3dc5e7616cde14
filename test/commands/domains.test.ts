import { mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { domainsOf } from '../../src/commands/domains.ts'
import { cleanUp, folder } from '../support/folders.ts'

let dir: string
const at = (path: string): string => join(dir, path)

beforeAll(async () => {
  dir = await folder()
  for (const path of ['a/text', 'b/text', 'c=d']) await mkdir(at(path), { recursive: true })
  for (const path of ['law.jsonl', 'notes.md', 'own.txt', 'bell\u0007.txt']) await writeFile(at(path), 'x')
})
afterAll(cleanUp)

const namesOf = async (...given: string[]): Promise<string[]> =>
  (await domainsOf(given, 'own')).map(({ name }) => name)

describe('the name of a domain', () => {
  it('is that of its file or folder, with the parent folder if two domains would have one name', async () => {
    expect(await namesOf(at('a/text'), at('b/text'), at('law.jsonl'))).toEqual(['a/text', 'b/text', 'law'])
  })

  it('has the parent folder if the training that is scored too has the name', async () => {
    expect(await namesOf(at('own.txt'))).toEqual([`${basename(dir)}/own`])
  })

  it('is the one before "=", unless a file of that path exists', async () => {
    expect(await namesOf(`old law=${at('law.jsonl')}`, at('c=d'))).toEqual(['old law', 'c=d'])
  })

  it('has "?" in place of characters that cannot be printed', async () => {
    expect(await namesOf(at('bell\u0007.txt'))).toEqual(['bell?'])
  })

  it.each([
    ['a path that does not exist', ['/no/such/text'], 'not-found', '/no/such/text does not exist'],
    ['one path twice', ['law.jsonl', 'law.jsonl'], 'usage', '--data NAME=PATH'],
    ['one name twice', ['x=law.jsonl', 'x=notes.md'], 'usage', 'law.jsonl as well as'],
    ['the name of the public text', ['public text=law.jsonl'], 'usage', 'another column'],
    ['the name of the training', ['own=law.jsonl'], 'usage', 'another column'],
    ['a control character', ['a\u001b[2J=law.jsonl'], 'usage', 'printable'],
    ['a name that is too long', [`${'x'.repeat(41)}=law.jsonl`], 'usage', '1 to 40'],
  ] as const)('is refused for %s', async (_, given, code, message) => {
    const arguments_ = given.map((argument) => argument.replace(/([a-z]+\.[a-z]+)$/, (path) => at(path)))
    const refusal = domainsOf(arguments_, 'own')
    await expect(refusal).rejects.toThrow(message)
    await expect(refusal).rejects.toMatchObject({ code })
  })
})
