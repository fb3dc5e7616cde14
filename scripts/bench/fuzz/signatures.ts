/**
 * Do we and tweetnacl decide alike about signatures? The reference is tweetnacl with the strict checks that it lacks, written a
 * second time here, with big integers. Signatures are honest, changed, random, or edge cases of Wycheproof, speccheck and CCTV
 * as they are and with one bit changed.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import nacl from 'tweetnacl'
import { sign, verifyStrict } from '../../../src/identity/ed25519.ts'
import { createIdentity, type Identity } from '../../../src/identity/keys.ts'
import { fromHex, toHex, utf8 } from '../../../src/lib/bytes.ts'
import { mulberry32 } from '../../../src/lib/random.ts'
import { ROOT } from '../node-process.ts'

export interface Agreement {
  readonly signatures: number
  /** Accepted by both. */
  readonly accepted: number
  readonly disagreements: number
  /** Calls that threw instead of deciding. */
  readonly exceptions: number
  /** Honest signatures whose bytes differ from those of tweetnacl, and how many were compared. */
  readonly otherBytes: number
  readonly comparedBytes: number
  readonly firstDisagreement?: string
}

interface Signed {
  readonly key: Uint8Array
  readonly message: Uint8Array
  readonly signature: Uint8Array
}

const P = 2n ** 255n - 19n
const L = 2n ** 252n + 27742317777372353535851937790883648493n
/** Points of small order: y = 0, 1, -1 and two more, with either sign of x. */
const SMALL_ORDER = [
  0n,
  1n,
  P - 1n,
  littleEndian(fromHex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a')),
  littleEndian(fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05')),
]
/** Cases between two new keys: tweetnacl takes milliseconds to make one. */
const CASES_PER_KEY = 500
/** Every how many honest signatures the bytes are compared, since tweetnacl signs slowly. */
const SIGNED_BY_BOTH = 10
const KINDS = [
  'honest',
  'bit',
  'message',
  'key',
  'noise',
  'other S',
  'other R',
  'S + L',
  'edge',
  'edge bit',
] as const

/** @param say called with the number of signatures so far, from time to time. */
export async function compareSignatures(count: number, say: (line: string) => void): Promise<Agreement> {
  const edges = await edgeCases()
  const random = mulberry32(1)
  const below = (most: number): number => Math.floor(random() * most)
  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => below(256))
  let identity = createIdentity(bytes(32))
  let [accepted, disagreements, exceptions, otherBytes, comparedBytes] = [0, 0, 0, 0, 0]
  let firstDisagreement: string | undefined
  for (let i = 0; i < count; i++) {
    if (i % CASES_PER_KEY === 0) identity = createIdentity(bytes(32))
    if (i > 0 && i % 10_000 === 0) say(`${i} of ${count} signatures`)
    const kind = KINDS[i % KINDS.length] ?? 'honest'
    const signed = signedAs(kind, identity, { bytes, below, edges })
    if (kind === 'honest' && comparedBytes * SIGNED_BY_BOTH * KINDS.length <= i) {
      comparedBytes++
      const theirs = nacl.sign.detached(signed.message, identity.secretKey)
      if (toHex(theirs) !== toHex(signed.signature)) otherBytes++
    }
    try {
      const expected = referenceAccepts(signed)
      if (verifyStrict(signed.key, signed.message, signed.signature) !== expected) {
        disagreements++
        firstDisagreement ??= `${kind}: key ${toHex(signed.key)}, message ${toHex(signed.message)}, signature ${toHex(signed.signature)}`
      } else if (expected) accepted++
    } catch {
      exceptions++
    }
  }
  return {
    signatures: count,
    accepted,
    disagreements,
    exceptions,
    otherBytes,
    comparedBytes,
    ...(firstDisagreement === undefined ? {} : { firstDisagreement }),
  }
}

interface Source {
  readonly edges: readonly Signed[]
  bytes(length: number): Uint8Array
  below(most: number): number
}

function signedAs(kind: (typeof KINDS)[number], identity: Identity, { bytes, below, edges }: Source): Signed {
  const flipped = (all: Uint8Array): Uint8Array => {
    const at = below(8 * all.length)
    return all.map((byte, i) => (i === at >> 3 ? byte ^ (1 << (at & 7)) : byte))
  }
  const key = identity.publicKey
  const message = bytes(1 + below(100))
  const edge = edges[below(edges.length)] as Signed
  if (kind === 'edge') return edge
  if (kind === 'edge bit') return { ...edge, signature: flipped(edge.signature) }
  if (kind === 'noise') return { key, message, signature: bytes(64) }
  const signature = sign(identity.secretKey, message)
  if (kind === 'bit') return { key, message, signature: flipped(signature) }
  if (kind === 'message') return { key, message: flipped(message), signature }
  if (kind === 'key') return { key: flipped(key), message, signature }
  if (kind === 'other S') signature.set(bytes(32), 32)
  // Below L, so that the equation decides and not the range.
  if (kind === 'other S') signature[63] = (signature[63] as number) & 0x0f
  if (kind === 'other R') signature.set(bytes(32))
  if (kind === 'S + L') signature.set(encoded(littleEndian(signature.subarray(32)) + L), 32)
  return { key, message, signature }
}

/** Signatures of the vectors of others; test/fixtures/signatures/NOTICE.md has their sources. */
async function edgeCases(): Promise<Signed[]> {
  const rows = async (name: string): Promise<string[][]> =>
    JSON.parse(await readFile(join(ROOT, 'test', 'fixtures', 'signatures', `${name}.json`), 'utf8'))
  const signed = (key = '', signature = '', message: Uint8Array): Signed => ({
    key: fromHex(key),
    message,
    signature: fromHex(signature),
  })
  return [
    ...(await rows('wycheproof')).map(([, , key, signature, message = '']) =>
      signed(key, signature, fromHex(message)),
    ),
    ...(await rows('speccheck')).map(([key, signature, message = '']) =>
      signed(key, signature, fromHex(message)),
    ),
    ...(await rows('cctv')).map(([key, signature, message = '']) => signed(key, signature, utf8(message))),
  ].filter(({ signature }) => signature.length > 0)
}

/** tweetnacl, after the checks that strict verification adds. */
function referenceAccepts({ key, message, signature }: Signed): boolean {
  if (key.length !== 32 || signature.length !== 64) return false
  if (littleEndian(signature.subarray(32)) >= L) return false
  for (const point of [key, signature.subarray(0, 32)]) {
    const y = littleEndian(point) & (2n ** 255n - 1n)
    if (y >= P || SMALL_ORDER.includes(y)) return false
  }
  return nacl.sign.detached.verify(message, signature, key)
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.length === 0 ? 0n : BigInt(`0x${toHex(bytes.slice().reverse())}`)
}

/** 32 bytes, little-endian. */
function encoded(value: bigint): Uint8Array {
  return fromHex((value % 2n ** 256n).toString(16).padStart(64, '0')).reverse()
}
