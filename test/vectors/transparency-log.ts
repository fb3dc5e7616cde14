/** Test vectors of protocols/transparency-log: notes, checkpoints, verifier keys, policies, requests and frames. */
import {
  decodeCheckpointFrame,
  decodeCheckpointsRequest,
  decodeCosignFrame,
} from '../../src/exchange/checkpoints.ts'
import { createIdentity } from '../../src/identity/keys.ts'
import { digestOf, fromHex, fromUtf8, toBase64, toHex, utf8 } from '../../src/lib/bytes.ts'
import { encodeCanonical } from '../../src/lib/canonical-json.ts'
import { decodeCbor, encodeCbor } from '../../src/lib/cbor.ts'
import { cosignerName, decodeCheckpoint, originOf } from '../../src/transparency/checkpoint.ts'
import { EMPTY_ROOT } from '../../src/transparency/merkle.ts'
import {
  COSIGNATURE,
  decodeNote,
  decodeVerifierKey,
  ED25519,
  encodeVerifierKey,
} from '../../src/transparency/note.ts'
import { decodeTrustPolicy } from '../../src/transparency/trust-policy.ts'
import { decodeWitnessKey } from '../../src/transparency/witness-key.ts'
import { decodeAddCheckpoint } from '../../src/transparency/witness-rules.ts'
import { byFileName, type Case, type Place, type Vector, type VectorSuite, vectorsOf } from './vector.ts'

const bytesOf = (text: string): Uint8Array => utf8(text)
const FRAME_BYTES = 2 ** 16

/** Decoders of text. */
const TEXTS = {
  note: (bytes: Uint8Array) => decodeNote(bytes),
  checkpoint: (bytes: Uint8Array) => decodeCheckpoint(fromUtf8(bytes)),
  'verifier-key': (bytes: Uint8Array) => decodeVerifierKey(fromUtf8(bytes)),
  'trust-policy': (bytes: Uint8Array) => decodeTrustPolicy(fromUtf8(bytes)),
  'add-checkpoint': (bytes: Uint8Array) => decodeAddCheckpoint(bytes),
  'witness-key': (bytes: Uint8Array) => decodeWitnessKey(bytes),
} as const
/** Decoders of frames. */
const FRAMES = {
  request: decodeCheckpointsRequest,
  cosigned: decodeCosignFrame,
  news: decodeCheckpointFrame,
} as const

const CONSORTIUM = digestOf(utf8('consortium'))
const keys = [1, 2, 3].map((number) => createIdentity(new Uint8Array(32).fill(number)))
const [{ peerId: PEER, publicKey: KEY }] = keys as [(typeof keys)[0] & object]
const vkey = (i: number, type: number = COSIGNATURE, name = `witness.example/${i}`): string =>
  encodeVerifierKey({ name, type, publicKey: keys[i]?.publicKey ?? new Uint8Array() })

/** The note of C2SP signed-note. */
const SIGNED =
  'This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n'
const EXAMPLE_KEY = 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k'
/** The checkpoint of C2SP tlog-cosignature. */
const COSIGNED = `example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
`
const CHECKPOINT = COSIGNED.split('\n\n')[0] as string
const HASH = 'PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw='

const TEXT_CASES: Record<keyof typeof TEXTS, readonly (readonly [...Case, string])[]> = {
  note: [
    ['signed', 'accept', 'the example of C2SP', SIGNED],
    ['cosigned', 'accept', 'a line of a key that nobody knows stays', COSIGNED],
    ['no-signature', 'bad-field', 'at least one signature', 'text\n\n'],
    ['no-empty-line', 'bad-field', 'an empty line before the signatures', SIGNED.replace('\n\n', '\n')],
    ['no-last-newline', 'bad-field', 'cut before its last newline', SIGNED.slice(0, -1)],
    ['no-text', 'bad-field', 'a text before the empty line', SIGNED.slice(SIGNED.indexOf('\n\n') + 1)],
    ['carriage-return', 'bad-field', 'no control character but newline', SIGNED.replace('.\n', '.\r\n')],
    ['tab', 'bad-field', 'no control character but newline', SIGNED.replace(' an ', '\tan ')],
    ['hyphen', 'bad-field', 'a signature line begins with an em dash', SIGNED.replace('— ', '- ')],
    ['plus-in-name', 'bad-field', 'a plus sign separates in verifier keys', SIGNED.replace('/foo', '+foo')],
    ['space-in-name', 'bad-field', 'no space in a name', SIGNED.replace('/foo', ' foo')],
    ['no-key-id', 'bad-field', 'four bytes and a signature', SIGNED.replace(/Uw2Q.*=/, 'Uw2QOg==')],
    ['loose-base64', 'bad-field', 'one encoding of each signature', SIGNED.replace('aQM=', 'aQN=')],
    ['line-twice', 'bad-field', 'each line once', SIGNED + SIGNED.slice(SIGNED.indexOf('—'))],
    ['too-many', 'bad-field', 'at most noteSignatures', `${SIGNED}${lines(128)}`],
    ['too-large', 'too-large', 'at most checkpointBytes', `${'x'.repeat(2 ** 15)}${SIGNED}`],
  ],
  checkpoint: [
    ['example', 'accept', 'the example of C2SP', `${CHECKPOINT}\n`],
    ['empty-tree', 'accept', 'a log without statements', `log\n0\n${toBase64(EMPTY_ROOT)}\n`],
    ['no-origin', 'bad-field', 'an origin in line 1', `\n1\n${HASH}\n`],
    ['leading-zero', 'bad-field', 'one spelling of a size', `log\n01\n${HASH}\n`],
    ['negative', 'bad-field', 'a size is not negative', `log\n-1\n${HASH}\n`],
    ['size-2-53', 'bad-field', 'below 2^53', `log\n9007199254740992\n${HASH}\n`],
    ['size-word', 'bad-field', 'a size is a number', `log\nbananas\n${HASH}\n`],
    ['short-root', 'bad-field', '32 bytes', 'log\n123\nYmFuYW5hcw==\n'],
    ['not-base64', 'bad-field', 'a root in base64', "log\n123\nThisIsn'tBase64\n"],
    ['two-lines', 'bad-field', 'three lines', 'log\n123\n'],
    ['no-newline', 'bad-field', 'cut before its last newline', `log\n1\n${HASH}`],
    ['extension', 'bad-field', 'this network uses no extension lines', `log\n1\n${HASH}\nmore\n`],
  ],
  'verifier-key': [
    ['example', 'accept', 'the example of C2SP', EXAMPLE_KEY],
    ['cosigner', 'accept', 'type 4', vkey(1)],
    ['other-id', 'bad-field', 'the id of the key', EXAMPLE_KEY.replace('530d903a', '530d903b')],
    ['other-name', 'bad-field', 'the id covers the name', EXAMPLE_KEY.replace('foo', 'fop')],
    ['upper-case-id', 'bad-field', 'one spelling of the id', EXAMPLE_KEY.replace('530d903a', '530D903A')],
    ['no-name', 'bad-field', 'a name', EXAMPLE_KEY.replace('example.com/foo', '')],
    ['type-2', 'bad-field', 'ECDSA is not used', vkey(1, 2)],
    ['type-6', 'bad-field', 'ML-DSA-44 is not used yet', vkey(1, 6)],
    [
      'short-key',
      'bad-field',
      '32 bytes',
      encodeVerifierKey({ name: 'a', type: ED25519, publicKey: KEY.slice(1) }),
    ],
    ['two-parts', 'bad-field', 'three parts', 'example.com/foo+530d903a'],
  ],
  'trust-policy': [
    [
      'groups',
      'accept',
      'two of two groups',
      `# who counts\nlog ${vkey(0, ED25519)}\n\twitness A ${vkey(1)} https://a.example/\nwitness B ${vkey(2)}\ngroup both all A B\nquorum both\n`,
    ],
    ['none', 'accept', 'no cosignature is needed', 'quorum none\n'],
    ['no-quorum', 'bad-field', 'exactly one quorum', `witness A ${vkey(1)}\n`],
    ['two-quorums', 'bad-field', 'exactly one quorum', 'quorum none\nquorum none\n'],
    ['unknown-quorum', 'bad-field', 'a name from a line above', 'quorum A\n'],
    ['later-name', 'bad-field', 'a name from a line above', `quorum A\nwitness A ${vkey(1)}\n`],
    [
      'name-twice',
      'bad-field',
      'one meaning of a name',
      `witness A ${vkey(1)}\nwitness A ${vkey(2)}\nquorum A\n`,
    ],
    [
      'key-twice',
      'bad-field',
      'one key under two names counts once',
      `witness A ${vkey(1)}\nwitness B ${vkey(1, COSIGNATURE, 'other.example')}\nquorum A\n`,
    ],
    ['named-none', 'bad-field', 'the name none is taken', `witness none ${vkey(1)}\nquorum none\n`],
    ['log-key', 'bad-field', 'a witness cosigns', `witness A ${vkey(1, ED25519)}\nquorum A\n`],
    ['threshold-0', 'bad-field', 'at least one', `witness A ${vkey(1)}\ngroup G 0 A\nquorum G\n`],
    ['threshold-above', 'bad-field', 'at most all', `witness A ${vkey(1)}\ngroup G 2 A\nquorum G\n`],
    ['threshold-minus', 'bad-field', 'a number', `witness A ${vkey(1)}\ngroup G -1 A\nquorum G\n`],
    ['empty-group', 'bad-field', 'at least one member', 'group G any\nquorum G\n'],
    ['member-twice', 'bad-field', 'each name once', `witness A ${vkey(1)}\ngroup G 2 A A\nquorum G\n`],
    [
      'in-two-groups',
      'bad-field',
      'a witness contributes in one way',
      `witness A ${vkey(1)}\ngroup G any A\ngroup H any A\nquorum H\n`,
    ],
    ['other-word', 'bad-field', 'four kinds of lines', 'cosigner A\nquorum none\n'],
    ['carriage-return', 'bad-field', 'no control characters', 'quorum none\r\n'],
  ],
  'add-checkpoint': [
    ['first', 'accept', 'nothing was cosigned before', `old 0\n\n${COSIGNED}`],
    ['later', 'accept', 'with a proof', `old 20852014\n${HASH}\n${HASH.replace('Pl', 'Pm')}\n\n${COSIGNED}`],
    ['no-old', 'bad-field', 'the old size', `\n${COSIGNED}`],
    ['old-leading-zero', 'bad-field', 'one spelling of a size', `old 00\n\n${COSIGNED}`],
    ['old-negative', 'bad-field', 'a size', `old -1\n\n${COSIGNED}`],
    ['old-two-spaces', 'bad-field', 'one space', `old  1\n\n${COSIGNED}`],
    ['short-hash', 'bad-field', '32 bytes', `old 1\nYmFuYW5hcw==\n\n${COSIGNED}`],
    ['64-hashes', 'bad-field', 'at most 63', `old 1\n${`${HASH}\n`.repeat(64)}\n${COSIGNED}`],
    ['no-note', 'bad-field', 'a checkpoint', 'old 1\n\n'],
    ['no-empty-line', 'bad-field', 'an empty line', `old 1\n${CHECKPOINT}\n`],
  ],
  'witness-key': [
    ['derived', 'accept', 'bound to the name of its member', witnessKey({})],
    ['other-name', 'bad-field', 'the name of another member', witnessKey({ key: vkey(0) })],
    [
      'log-type',
      'bad-field',
      'a key that cosigns',
      witnessKey({ key: vkey(0, ED25519, cosignerName(CONSORTIUM, PEER)) }),
    ],
    [
      'name-of-log',
      'bad-field',
      'not the origin',
      witnessKey({ key: vkey(0, COSIGNATURE, originOf(CONSORTIUM, PEER)) }),
    ],
    ['no-time', 'bad-field', 'later ones replace it', witnessKey({ issuedAt: undefined })],
    ['more', 'bad-field', 'nothing unknown', witnessKey({ more: 1 })],
    ['spaces', 'not-canonical', 'one encoding', ` ${witnessKey({})}`],
    ['cut', 'not-json', 'all of it', witnessKey({}).slice(0, -1)],
  ],
}

const KNOWN = { publisher: PEER, size: 3, cosignatures: 2, keyIssuedAt: 1_800_000_000 }
const some = new Uint8Array(8)

const FRAME_CASES: Record<keyof typeof FRAMES, readonly (readonly [...Case, unknown])[]> = {
  request: [
    ['add', 'accept', 'asks for a cosignature', { kind: 'add', body: some }],
    ['list', 'accept', 'asks for news', { kind: 'list', known: [KNOWN] }],
    ['no-kind', 'bad-field', 'says what it asks', { known: [] }],
    ['other-kind', 'bad-field', 'a kind that this version does not know', { kind: 'sign', body: some }],
    ['text-body', 'bad-field', 'bytes', { kind: 'add', body: 'old 0' }],
    ['long-body', 'bad-field', 'at most addCheckpointBytes', { kind: 'add', body: new Uint8Array(8193) }],
    ['add-with-known', 'bad-field', 'nothing unknown', { kind: 'add', body: some, known: [] }],
    [
      'too-many',
      'bad-field',
      'one for each member',
      { kind: 'list', known: Array.from({ length: 65 }, () => KNOWN) },
    ],
    [
      'no-size',
      'bad-field',
      'every member of an entry',
      { kind: 'list', known: [{ ...KNOWN, size: undefined }] },
    ],
    [
      'many-cosignatures',
      'bad-field',
      'one of each member',
      { kind: 'list', known: [{ ...KNOWN, cosignatures: 65 }] },
    ],
  ],
  cosigned: [
    ['line', 'accept', 'a signature line', { status: 200, body: utf8(`${COSIGNED.split('\n')[5]}\n`) }],
    ['conflict', 'accept', 'the size that was cosigned last', { status: 409, body: utf8('3\n') }],
    ['other-status', 'bad-field', 'six numbers', { status: 500, body: some }],
    ['status-text', 'bad-field', 'a number', { status: '200', body: some }],
    ['no-body', 'bad-field', 'a body', { status: 200 }],
    ['long-body', 'bad-field', 'a few lines', { status: 200, body: new Uint8Array(4097) }],
    ['not-utf8', 'bad-field', 'a text', { status: 200, body: fromHex('ff') }],
    ['more', 'bad-field', 'nothing unknown', { status: 200, body: some, more: 1 }],
  ],
  news: [
    ['both', 'accept', 'a key and a checkpoint', { publisher: PEER, witnessKey: some, note: some }],
    ['neither', 'bad-field', 'one of the two', { publisher: PEER }],
    ['no-publisher', 'bad-field', 'whose log it is', { note: some }],
    [
      'long-key',
      'bad-field',
      'at most witnessKeyBytes',
      { publisher: PEER, witnessKey: new Uint8Array(4097) },
    ],
    ['long-note', 'bad-field', 'at most checkpointBytes', { publisher: PEER, note: new Uint8Array(32_769) }],
    ['text-note', 'bad-field', 'bytes', { publisher: PEER, note: COSIGNED }],
    ['more', 'bad-field', 'nothing unknown', { publisher: PEER, note: some, more: 1 }],
  ],
}

/** Signature lines that differ. */
function lines(count: number): string {
  return Array.from({ length: count }, (_, i) => `— w${i} jWbPPwAA\n`).join('')
}

function witnessKey(changes: Readonly<Record<string, unknown>>): string {
  const key = vkey(0, COSIGNATURE, cosignerName(CONSORTIUM, PEER))
  const fields = { consortium: CONSORTIUM, publisher: PEER, key, issuedAt: 1_800_000_000, ...changes }
  const present = Object.entries(fields).filter(([, value]) => value !== undefined)
  return fromUtf8(encodeCanonical(Object.fromEntries(present)))
}

function makeVectors(): Record<string, Vector> {
  const texts = Object.entries(TEXT_CASES).flatMap(([decoder, cases]) =>
    vectorsOf(decoder, `transparency-log ${decoder}`, cases, (text) => ({ decoder, text })),
  )
  const frames = Object.entries(FRAME_CASES).flatMap(([decoder, cases]) =>
    vectorsOf(decoder, 'transparency-log Exchange', cases, (frame) => ({
      decoder,
      hex: toHex(encodeCbor(withoutUndefined(frame))),
    })),
  )
  return byFileName([...texts, ...frames])
}

/** CBOR would encode undefined members. */
function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined)
  if (value instanceof Uint8Array || typeof value !== 'object' || value === null) return value
  const present = Object.entries(value).filter(([, one]) => one !== undefined)
  return Object.fromEntries(present.map(([name, one]) => [name, withoutUndefined(one)]))
}

function runVector(input: Readonly<Record<string, unknown>>, place: Place): unknown {
  const { decoder, text, hex } = input
  if (typeof text === 'string') return TEXTS[decoder as keyof typeof TEXTS](place(bytesOf(text)))
  const frame = place(fromHex(hex as string))
  return FRAMES[decoder as keyof typeof FRAMES](decodeCbor(frame, FRAME_BYTES))
}

export const transparencyLog: VectorSuite = { makeVectors, runVector }
