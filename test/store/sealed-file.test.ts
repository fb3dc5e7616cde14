import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { concatBytes, utf8 } from '../../src/lib/bytes.ts'
import { opened, SEALED_BYTES, sealed } from '../../src/store/sealed-file.ts'
import { cleanUp, folder } from '../support/folders.ts'

afterAll(cleanUp)

const PASSPHRASE = 'correct horse battery'
/** The cheapest key that is read. */
const CHEAP = { logN: 15 }
const START = 51
const BOX = SEALED_BYTES + 16

function bytesOf(size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => (i * 31) % 251)
}

async function collected(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const part of stream) parts.push(part)
  return concatBytes(...parts)
}

/** Content in pieces of an odd size. */
async function* pieces(content: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < content.length; at += 50_001) yield content.subarray(at, at + 50_001)
}

/** A new file with content of this size, which may be changed. */
async function file(
  size: number,
  change: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes,
): Promise<string> {
  const path = join(await folder(), 'sealed')
  await writeFile(path, change(await collected(sealed(pieces(bytesOf(size)), PASSPHRASE, CHEAP))))
  return path
}

const read = (path: string, passphrase = PASSPHRASE): Promise<Uint8Array> =>
  collected(opened(path, passphrase))

const flipped =
  (at: number) =>
  (bytes: Uint8Array): Uint8Array => {
    const copy = bytes.slice()
    copy[at] = (copy[at] as number) ^ 1
    return copy
  }

describe('a sealed file', () => {
  it.each([0, 1, SEALED_BYTES - 1, SEALED_BYTES, SEALED_BYTES + 1, 3 * SEALED_BYTES])(
    'returns its content of %i bytes',
    async (size) => {
      expect(Buffer.compare(await read(await file(size)), bytesOf(size))).toBe(0)
    },
  )

  it('holds nothing of its content in the clear, and differs each time', async () => {
    const text = 'the content of the file'
    const write = () => collected(sealed(pieces(utf8(text)), PASSPHRASE, CHEAP))
    const [first, second] = [Buffer.from(await write()), Buffer.from(await write())]
    expect(first.includes('content')).toBe(false)
    expect(first.subarray(START).equals(second.subarray(START))).toBe(false)
  })

  it('needs a passphrase of 12 characters', async () => {
    const write = collected(sealed(pieces(bytesOf(1)), 'short', CHEAP))
    await expect(write).rejects.toMatchObject({ code: 'usage', message: expect.stringContaining('12') })
  })

  it('refuses a wrong passphrase', async () => {
    const refused = read(await file(10), 'wrong horse battery')
    await expect(refused).rejects.toMatchObject({ code: 'wrong-passphrase' })
  })

  it.each([
    ['the version', 16, 'not-acceptable'],
    ['the first word', 0, 'bad-field'],
    ['logN', 18, 'bad-field', 64],
    ['the salt', 20, 'wrong-passphrase'],
    ['the check of the passphrase', 40, 'wrong-passphrase'],
    ['the first box', START + 100, 'bad-field'],
    ['the second box', START + BOX + 100, 'bad-field'],
    ['the last box', START + 2 * BOX + 20, 'truncated'],
  ])('refuses a changed bit in %s', async (_, at, code, mask = 1) => {
    const path = await file(2 * SEALED_BYTES + 10, (bytes) => {
      const copy = bytes.slice()
      copy[at] = (copy[at] as number) ^ mask
      return copy
    })
    await expect(read(path)).rejects.toMatchObject({ code })
  })

  it.each([
    ['within its header', 30],
    ['after its header', START],
    ['within a box', START + BOX + 5],
    ['between boxes', START + 2 * BOX],
    ['by one byte', -1],
  ])('refuses a file that was cut off %s', async (_, end) => {
    const path = await file(2 * SEALED_BYTES + 10, (bytes) => bytes.slice(0, end))
    await expect(read(path)).rejects.toMatchObject({ code: 'truncated' })
  })

  it('refuses an empty file and one of another kind', async () => {
    const path = await file(0, () => new Uint8Array())
    await expect(read(path)).rejects.toMatchObject({ code: 'bad-field' })
    await writeFile(path, 'some other text')
    await expect(read(path)).rejects.toMatchObject({ message: expect.stringContaining('is no backup') })
  })

  it('refuses boxes in another order, left out, or appended', async () => {
    const boxes = (bytes: Uint8Array, ...order: number[]): Uint8Array =>
      concatBytes(
        bytes.subarray(0, START),
        ...order.map((i) => bytes.subarray(START + i * BOX, START + (i + 1) * BOX)),
      )
    const path = await file(3 * SEALED_BYTES)
    const whole = new Uint8Array(await readFile(path))
    for (const order of [
      [1, 0, 2],
      [0, 2],
      [0, 1, 2, 2],
    ]) {
      await writeFile(path, boxes(whole, ...order))
      await expect(read(path)).rejects.toMatchObject({ family: 'format' })
    }
    await writeFile(path, flipped(START)(whole))
    await expect(read(path)).rejects.toMatchObject({ code: 'bad-field' })
  })
})
