/** Test vectors of protocols/package-exchange: the frames that one side sends the other. */
import { ADDRESSES, decodeAddressesFrame, decodeAddressesRequest } from '../../src/exchange/addresses.ts'
import { BLOB, decodeBlobRequest } from '../../src/exchange/blob.ts'
import { decodeJoinRequest, decodeStatusFrame, JOIN } from '../../src/exchange/join.ts'
import { decodeStatementsFrame, decodeStatementsRequest, STATEMENTS } from '../../src/exchange/statements.ts'
import { fromHex, toHex } from '../../src/lib/bytes.ts'
import { decodeCbor, encodeCbor } from '../../src/lib/cbor.ts'
import { limit } from '../../src/lib/limits.ts'
import { decodeBytesFrame } from '../../src/network/frames.ts'
import { byFileName, type Case, type Place, type Vector, type VectorSuite, vectorsOf } from './vector.ts'

const SPEC = 'package-exchange Frames'
const DECODERS = {
  'join-request': { decode: decodeJoinRequest, max: JOIN.maxRequestBytes },
  'join-answer': { decode: decodeStatusFrame, max: JOIN.maxResponseBytes },
  'statements-request': { decode: decodeStatementsRequest, max: STATEMENTS.maxRequestBytes },
  'statements-answer': {
    decode: decodeStatementsFrame,
    max: STATEMENTS.maxResponseBytes,
  },
  'addresses-request': { decode: decodeAddressesRequest, max: ADDRESSES.maxRequestBytes },
  'addresses-answer': { decode: decodeAddressesFrame, max: ADDRESSES.maxResponseBytes },
  'blob-request': { decode: decodeBlobRequest, max: BLOB.maxRequestBytes },
  'blob-answer': {
    decode: (value: unknown) => decodeBytesFrame(value, limit('chunkBytes')),
    max: BLOB.maxResponseBytes,
  },
} as const
type Decoder = keyof typeof DECODERS

const PEER = '12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz'
const token = 'ab'.repeat(16)
const digest = new Uint8Array(32).fill(7)
const KNOWN = { publisher: PEER, seq: 3, last: digest, forked: false }

const CASES: Record<Decoder, readonly (readonly [...Case, unknown])[]> = {
  'join-request': [
    ['charter', 'accept', 'asks for the charter', { kind: 'charter', token }],
    [
      'membership',
      'accept',
      'carries a membership request',
      { kind: 'membership', envelope: new Uint8Array(8) },
    ],
    ['no-kind', 'bad-field', 'says what it asks', { token }],
    ['other-kind', 'bad-field', 'a kind that this version does not know', { kind: 'leave', token }],
    [
      'upper-case-token',
      'bad-field',
      'tokens have one spelling',
      { kind: 'charter', token: token.toUpperCase() },
    ],
    ['token-as-bytes', 'bad-field', 'a token is text', { kind: 'charter', token: new Uint8Array(16) }],
    ['extra-field', 'bad-field', 'nothing unknown', { kind: 'charter', token, more: 1 }],
    ['list', 'bad-field', 'a frame is a map', ['charter', token]],
  ],
  'join-answer': [
    ['pending', 'accept', 'a founder has to approve', { status: 'pending' }],
    ['other-status', 'bad-field', 'one of three words', { status: 'maybe' }],
    ['no-status', 'bad-field', 'one of three words', {}],
    ['extra-field', 'bad-field', 'nothing unknown', { status: 'member', more: 1 }],
  ],
  'statements-request': [
    ['first', 'accept', 'knows the charter only', { rosterVersion: 1, governance: digest, known: [] }],
    [
      'later',
      'accept',
      'knows three statements of a member',
      { rosterVersion: 4, governance: digest, known: [KNOWN] },
    ],
    [
      'forked',
      'accept',
      'holds a proof and no statement',
      { rosterVersion: 4, governance: digest, known: [{ ...KNOWN, seq: 0, forked: true }] },
    ],
    ['negative', 'bad-field', 'versions count from 1', { rosterVersion: -1, governance: digest, known: [] }],
    ['fraction', 'bad-field', 'versions are whole', { rosterVersion: 1.5, governance: digest, known: [] }],
    ['known-is-map', 'bad-field', 'known is a list', { rosterVersion: 1, governance: digest, known: {} }],
    [
      'too-many',
      'bad-field',
      'no more members than a roster holds',
      { rosterVersion: 1, governance: digest, known: Array.from({ length: 65 }, () => KNOWN) },
    ],
    [
      'no-seq',
      'bad-field',
      'a publisher needs its number',
      { rosterVersion: 1, governance: digest, known: [{ publisher: PEER, last: digest, forked: false }] },
    ],
    [
      'no-last',
      'bad-field',
      'a number alone names either branch of a fork',
      { rosterVersion: 1, governance: digest, known: [{ publisher: PEER, seq: 3, forked: false }] },
    ],
    [
      'short-last',
      'bad-field',
      '32 bytes',
      { rosterVersion: 1, governance: digest, known: [{ ...KNOWN, last: digest.subarray(1) }] },
    ],
    [
      'forked-as-number',
      'bad-field',
      'true or false',
      { rosterVersion: 1, governance: digest, known: [{ ...KNOWN, forked: 1 }] },
    ],
    [
      'no-governance',
      'bad-field',
      'a version alone does not tell what was decided',
      { rosterVersion: 1, known: [] },
    ],
    [
      'short-governance',
      'bad-field',
      '32 bytes',
      { rosterVersion: 1, governance: digest.subarray(1), known: [] },
    ],
    [
      'extra-field',
      'bad-field',
      'nothing unknown',
      { rosterVersion: 1, governance: digest, known: [], more: 1 },
    ],
  ],
  'statements-answer': [
    ['envelope', 'accept', 'one envelope a frame', { bytes: new Uint8Array(16) }],
    ['text', 'bad-field', 'bytes, not text', { bytes: 'abc' }],
    ['too-long', 'bad-field', 'longer than any envelope', { bytes: new Uint8Array(2 ** 17 + 1) }],
    ['too-large', 'too-large', 'longer than any proof', { bytes: new Uint8Array(2 ** 18 + 65) }],
    ['extra-field', 'bad-field', 'nothing unknown', { bytes: new Uint8Array(1), more: 1 }],
    [
      'fork',
      'accept',
      'two envelopes that contradict each other',
      { fork: [new Uint8Array(8), new Uint8Array(9)] },
    ],
    ['fork-of-one', 'bad-field', 'one envelope contradicts nothing', { fork: [new Uint8Array(8)] }],
    [
      'fork-of-three',
      'bad-field',
      'two are enough',
      { fork: [new Uint8Array(1), new Uint8Array(2), new Uint8Array(3)] },
    ],
    ['fork-as-text', 'bad-field', 'envelopes are bytes', { fork: ['a', 'b'] }],
    [
      'fork-and-bytes',
      'bad-field',
      'one or the other',
      { fork: [new Uint8Array(1), new Uint8Array(2)], bytes: new Uint8Array(1) },
    ],
    [
      'fork-too-long',
      'bad-field',
      'longer than any envelope',
      { fork: [new Uint8Array(1), new Uint8Array(2 ** 17 + 1)] },
    ],
  ],
  'addresses-request': [
    ['empty', 'accept', 'an empty map', {}],
    ['field', 'bad-field', 'nothing to ask for', { peer: PEER }],
    ['null', 'bad-field', 'a map', null],
    ['number', 'bad-field', 'a map', 1],
  ],
  'addresses-answer': [
    ['one', 'accept', 'where a member was reached', { peerId: PEER, addresses: ['/ip4/192.0.2.1/tcp/4001'] }],
    [
      'too-many',
      'bad-field',
      'at most addressesPerMember',
      { peerId: PEER, addresses: Array.from({ length: 9 }, () => '/ip4/192.0.2.1/tcp/4001') },
    ],
    ['too-long', 'bad-field', 'at most 256 characters', { peerId: PEER, addresses: ['/'.padEnd(257, 'x')] }],
    ['number', 'bad-field', 'addresses are text', { peerId: PEER, addresses: [4001] }],
  ],
  'blob-request': [
    ['hashes', 'accept', 'the hashes of all chunks', { kind: 'hashes', digest }],
    ['chunks', 'accept', 'four chunks from the third', { kind: 'chunks', digest, first: 2, count: 4 }],
    ['short-digest', 'bad-field', '32 bytes', { kind: 'hashes', digest: digest.subarray(1) }],
    ['no-count', 'bad-field', 'at least one', { kind: 'chunks', digest, first: 0, count: 0 }],
    ['too-many', 'bad-field', 'at most 32 a request', { kind: 'chunks', digest, first: 0, count: 33 }],
    [
      'past-the-end',
      'bad-field',
      'beyond the largest file',
      { kind: 'chunks', digest, first: 65_537, count: 1 },
    ],
    ['huge-first', 'bad-field', 'beyond safe integers', { kind: 'chunks', digest, first: 2 ** 53, count: 1 }],
    ['extra-field', 'bad-field', 'nothing unknown', { kind: 'hashes', digest, first: 1 }],
  ],
  'blob-answer': [
    ['chunk', 'accept', 'one chunk a frame', { bytes: new Uint8Array(4) }],
    ['too-long', 'bad-field', 'longer than a chunk', { bytes: new Uint8Array(2 ** 20 + 1) }],
    ['no-bytes', 'bad-field', 'a chunk has bytes', {}],
    ['text', 'bad-field', 'bytes, not text', { bytes: 'abc' }],
  ],
}

/** Statements requests in encodings that are not deterministic CBOR. */
const RAW: readonly (readonly [...Case, string])[] = [
  [
    'long-integer',
    'not-cbor',
    'an integer in more bytes than it needs',
    'a2656b6e6f776e806d726f7374657256657273696f6e1801',
  ],
  ['unsorted', 'not-cbor', 'keys out of order', 'a26d726f7374657256657273696f6e01656b6e6f776e80'],
  ['duplicate', 'not-cbor', 'a key twice', 'a2656b6e6f776e80656b6e6f776e80'],
  [
    'indefinite',
    'not-cbor',
    'a list of indefinite length',
    'a2656b6e6f776e9fff6d726f7374657256657273696f6e01',
  ],
  ['cut', 'not-cbor', 'the end is missing', 'a2656b6e6f776e80'],
  ['trailing', 'not-cbor', 'bytes after the item', 'a2656b6e6f776e806d726f7374657256657273696f6e0100'],
  ['tag', 'not-cbor', 'no tags', 'c100'],
  ['nothing', 'not-cbor', 'no item', ''],
  ['deep', 'too-large', 'nine lists inside each other', `${'81'.repeat(9)}00`],
  ['deep-map', 'too-large', 'nine maps inside each other', `${'a100'.repeat(9)}00`],
  ['deep-tag', 'too-large', 'nine tags around a number', `${'c1'.repeat(9)}00`],
  ['many-items', 'too-large', 'a list of 4096 numbers is one item too many', `991000${'00'.repeat(4096)}`],
  ['huge-list', 'not-cbor', 'a list that announces more items than follow', '9affffffff00'],
  ['huge-map', 'not-cbor', 'a map that announces 2^64 - 1 entries', 'bbffffffffffffffff0000'],
  ['huge-bytes', 'not-cbor', 'a byte string that announces more bytes than follow', '5affffffff00'],
]

function makeVectors(): Record<string, Vector> {
  const structured = (Object.keys(DECODERS) as Decoder[]).flatMap((decoder) =>
    vectorsOf(decoder, SPEC, CASES[decoder], (value) => {
      return { decoder, ...counted(toHex(encodeCbor(value))) }
    }),
  )
  const raw = vectorsOf('cbor', SPEC, RAW, (hex) => ({ decoder: 'statements-request', ...counted(hex) }))
  return byFileName([...structured, ...raw])
}

/** Long refusals end with zeros, which the vector only counts. */
function counted(hex: string): { hex: string; zeros?: number } {
  return hex.length > 4096 ? shortened(hex) : { hex }
}

/** `hex` without a long run of zero bytes at its end, and the number of bytes removed. */
function shortened(hex: string): { hex: string; zeros: number } {
  const zeros = /(?:00)+$/.exec(hex)?.[0].length ?? 0
  return zeros > 4096 ? { hex: hex.slice(0, -zeros), zeros: zeros / 2 } : { hex, zeros: 0 }
}

/** The bytes of a vector's frame, without its length. */
export function frameOf(input: Readonly<Record<string, unknown>>): Uint8Array {
  return fromHex(`${String(input['hex'])}${'00'.repeat(Number(input['zeros'] ?? 0))}`)
}

/** The largest frame that the receiver of a vector's frame allows. */
export function maxFrameBytes(input: Readonly<Record<string, unknown>>): number {
  return DECODERS[input['decoder'] as Decoder].max
}

/** Decodes the item of a vector's frame as the message that the vector names. */
export function decodeFrame(input: Readonly<Record<string, unknown>>, item: unknown): unknown {
  return DECODERS[input['decoder'] as Decoder].decode(item)
}

function runVector(input: Readonly<Record<string, unknown>>, place: Place): unknown {
  return decodeFrame(input, decodeCbor(place(frameOf(input)), maxFrameBytes(input)))
}

export const packageExchange: VectorSuite = { makeVectors, runVector }
