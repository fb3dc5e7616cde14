/** Vectors of others: which signatures strict verification accepts. test/fixtures/signatures/NOTICE.md has their sources. */
import { createPrivateKey, sign as signWithNode } from 'node:crypto'
import { readFileSync } from 'node:fs'
import nacl from 'tweetnacl'
import { describe, expect, it } from 'vitest'
import { sign, verifyStrict } from '../../src/identity/ed25519.ts'
import { concatBytes, fromHex, utf8 } from '../../src/lib/bytes.ts'
import { mulberry32 } from '../../src/lib/random.ts'

/** FLEXMESH_SIGNATURES=1024 takes a minute. */
const SIGNATURES = Number(process.env['FLEXMESH_SIGNATURES'] ?? 64)

function rows(name: string): string[][] {
  const url = new URL(`../fixtures/signatures/${name}.json`, import.meta.url)
  const parsed: unknown = JSON.parse(readFileSync(url, 'utf8'))
  return (parsed as unknown[][]).map((row) => row.map(String))
}

describe('strict verification', () => {
  it('decides all 151 vectors of Wycheproof as they say', () => {
    const wrong = rows('wycheproof').filter(([, result, key = '', signature = '', message = '']) => {
      return verifyStrict(fromHex(key), fromHex(message), fromHex(signature)) !== (result === 'valid')
    })
    expect(rows('wycheproof')).toHaveLength(151)
    expect(wrong).toEqual([])
  })

  it('accepts of the 12 edge cases of speccheck only the fourth, as strict libraries do', () => {
    const accepted = rows('speccheck').map(([key = '', signature = '', message = '']) =>
      verifyStrict(fromHex(key), fromHex(message), fromHex(signature)) ? 'V' : 'X',
    )
    expect(accepted.join('')).toBe('XXXVXXXXXXXX')
  })

  it('accepts 43 of the 914 vectors of CCTV: those with strong keys whose residue is no point of small order', () => {
    const harmless = ['low_order_component_A', 'low_order_component_R']
    const all = rows('cctv')
    const accepted = all.filter(([key = '', signature = '', message = '']) =>
      verifyStrict(fromHex(key), utf8(message), fromHex(signature)),
    )
    const expected = all.filter(([, , , ...flags]) => flags.every((flag) => harmless.includes(flag)))
    expect(all).toHaveLength(914)
    expect(accepted).toEqual(expected)
    expect(accepted).toHaveLength(43)
  })

  it('accepts none of the 196 signatures of ZIP 215, whose key and R are of small order', () => {
    const points = [
      ...new Set(rows('cctv').flatMap(([key = '', signature = '']) => [key, signature.slice(0, 64)])),
    ]
      .map(fromHex)
      .filter(isSmallOrder)
    const signatures = points.flatMap((key) =>
      points.map((r) => ({ key, signature: concatBytes(r, new Uint8Array(32)) })),
    )
    expect(signatures).toHaveLength(196)
    const accepted = signatures.filter(({ key, signature }) => verifyStrict(key, utf8('Zcash'), signature))
    expect(accepted).toEqual([])
  })

  it('signs as OpenSSL does and verifies it, for random keys and messages', () => {
    const random = mulberry32(11)
    const bytes = (length: number) => Uint8Array.from({ length }, () => 256 * random())
    for (let i = 0; i < SIGNATURES; i++) {
      const seed = bytes(32)
      const { publicKey, secretKey } = nacl.sign.keyPair.fromSeed(seed)
      const message = bytes(i)
      const signature = sign(secretKey, message)
      const key = createPrivateKey({
        key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]),
        format: 'der',
        type: 'pkcs8',
      })
      expect(signature).toEqual(new Uint8Array(signWithNode(null, message, key)))
      expect(verifyStrict(publicKey, message, signature)).toBe(true)
    }
  })
})

/** Whether the order of a point divides 8, in any of its encodings. */
function isSmallOrder(point: Uint8Array): boolean {
  const y = point.slice()
  y[31] = (y[31] as number) & 0x7f
  return SMALL_ORDER_Y.some((small) => Buffer.compare(small, y) === 0)
}

/** y coordinates of the points whose order divides 8, and the two that are not below the prime. */
const SMALL_ORDER_Y = [
  `00${'00'.repeat(31)}`,
  `01${'00'.repeat(31)}`,
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
].map(fromHex)
