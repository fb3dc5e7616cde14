/** Keys, a charter and its rosters, and changes to their payloads, from which every section's vectors are made. */
import { type Charter, encodeCharter, publicModelDigest } from '../../../src/consortium/charter.ts'
import { rosterFromCharter } from '../../../src/consortium/roster.ts'
import { founderRules } from '../../../src/consortium/rules.ts'
import { seal } from '../../../src/identity/envelope.ts'
import { createIdentity, type Identity } from '../../../src/identity/keys.ts'
import type { MediaType } from '../../../src/identity/media-types.ts'
import { digestOf, fromUtf8 } from '../../../src/lib/bytes.ts'
import { encodeCanonical } from '../../../src/lib/canonical-json.ts'
import type { PublicFile } from '../../../src/lib/model-shape.ts'
import { addMember, revokeMember, signable } from '../../support/signed-rosters.ts'

export const NOW = 1_800_000_000
export const alice = createIdentity(new Uint8Array(32).fill(0x31))
export const bob = createIdentity(new Uint8Array(32).fill(0x32))
export const carol = createIdentity(new Uint8Array(32).fill(0x33))

export const file = (role: PublicFile['role'], name: string, byte: number) => ({
  role,
  name,
  size: 1000 + byte,
  sha256: digestOf(Uint8Array.of(byte)),
  chunkSize: 1_048_576,
  chunksSha256: digestOf(Uint8Array.of(byte, 1)),
})
export const files = [
  file('config', 'config.json', 1),
  file('tokenizer', 'tokenizer.json', 2),
  file('weights', 'model.safetensors', 3),
  file('replay', 'replay.jsonl', 4),
]
export const shards = [
  file('config', 'config.json', 1),
  file('tokenizer', 'tokenizer.json', 2),
  file('weights', 'model-00001-of-00002.safetensors', 5),
  file('weights', 'model-00002-of-00002.safetensors', 6),
  file('index', 'model.safetensors.index.json', 7),
  file('replay', 'replay.jsonl', 4),
]
const charter: Charter = {
  name: 'Example consortium',
  publicModel: {
    name: 'tiny',
    digest: publicModelDigest(files),
    tokenizerDigest: digestOf(Uint8Array.of(2)),
    config: {
      vocab_size: 64,
      hidden_size: 4,
      intermediate_size: 6,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      max_position_embeddings: 32,
      rope_theta: 500_000,
      rms_norm_eps_nano: 1000,
    },
    files,
  },
  founders: [
    { institution: 'Alpha Hospital', peerId: alice.peerId, role: 'founder', joinedAt: NOW },
    { institution: 'Beta Archive', peerId: bob.peerId, role: 'founder', joinedAt: NOW },
  ],
  rules: founderRules(2),
  threshold: 2,
  issuedAt: NOW,
}
export const payload = encodeCharter(charter)
export const consortium = digestOf(payload)
export const founding = signable(rosterFromCharter(charter, consortium))
export const grown = addMember(founding, 'Gamma University', carol.peerId, NOW + 60)
export const shrunk = revokeMember(grown, carol.peerId, 'left', 3, NOW + 120)

export type Change = (value: Record<string, unknown>) => void

/** The payload with one change, still canonical JSON. */
export function changed(bytes: Uint8Array, change: Change): Uint8Array {
  const value = JSON.parse(fromUtf8(bytes)) as Record<string, unknown>
  change(value)
  return encodeCanonical(value)
}

export function text(type: MediaType, bytes: Uint8Array, signers: readonly Identity[]): string {
  return fromUtf8(seal(type, bytes, signers))
}

export const both = [alice, bob]
export const set =
  (name: string, value: unknown): Change =>
  (object) => {
    object[name] = value
  }
export const member = (value: Record<string, unknown>, index: number): Record<string, unknown> =>
  (value['members'] as Record<string, unknown>[])[index] as Record<string, unknown>
export const publicModel =
  (name: string, value: unknown): Change =>
  (object) => {
    ;(object['publicModel'] as Record<string, unknown>)[name] = value
  }
