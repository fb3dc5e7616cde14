import { describe, expect, it } from 'vitest'
import { concatBytes, fromUtf8, utf8 } from '../../src/lib/bytes.ts'
import { type BackupHead, encodeHead, readRecords } from '../../src/store/backup-file.ts'

const HOME: BackupHead = { type: 'home', root: '/home', at: 1 }
const FILE: BackupHead = { type: 'file', path: 'egress/head.json', size: 5 }
const END: BackupHead = { type: 'end', records: 2 }

/** Bytes one by one, so that nothing depends on the pieces. */
async function* oneByOne(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  for (const byte of bytes) yield Uint8Array.of(byte)
}

async function read(...parts: Uint8Array[]): Promise<[BackupHead, string][]> {
  const found: [BackupHead, string][] = []
  for await (const { head, body } of readRecords(oneByOne(concatBytes(...parts)))) {
    const bytes: Uint8Array[] = []
    for await (const part of body) bytes.push(part)
    found.push([head, fromUtf8(concatBytes(...bytes))])
  }
  return found
}

describe('the records of a backup', () => {
  it('are read as they were written', async () => {
    const parts = [encodeHead(HOME), encodeHead(FILE), utf8('12345'), encodeHead(END)]
    expect(await read(...parts)).toEqual([
      [HOME, ''],
      [FILE, '12345'],
      [END, ''],
    ])
  })

  it.each(['../key.json', '/etc/passwd', 'a/../../b', './a', 'a//b', 'a\\b', 'a\0b'])(
    'name no file outside of the home: %j',
    async (path) => {
      const parts = [encodeHead(HOME), encodeHead({ ...FILE, path }), utf8('12345'), encodeHead(END)]
      await expect(read(...parts)).rejects.toMatchObject({ code: 'bad-field' })
    },
  )

  it.each<[string, Uint8Array[]]>([
    ['without an end', [encodeHead(HOME), encodeHead(FILE), utf8('12345')]],
    ['that end within a body', [encodeHead(HOME), encodeHead(FILE), utf8('123')]],
    ['that lack one of them', [encodeHead(HOME), encodeHead(END)]],
    ['without a home', [encodeHead(FILE), utf8('12345'), encodeHead({ type: 'end', records: 1 })]],
    ['with two homes', [encodeHead(HOME), encodeHead(HOME), encodeHead(END)]],
    ['with something after the end', [encodeHead(HOME), encodeHead({ type: 'end', records: 1 }), utf8('x')]],
    ['with a head that is too long', [encodeHead(HOME), Uint8Array.of(255, 0, 0, 0)]],
    ['with a head that is not JSON', [Uint8Array.of(0, 0, 0, 1, 123)]],
  ])('%s are refused', async (_, parts) => {
    await expect(read(...parts)).rejects.toMatchObject({ family: 'format' })
  })
})
