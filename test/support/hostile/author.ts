/** Signs manifests with any fields, and withdrawals. Two authors of one member sign two histories. */
import { seal } from '../../../src/identity/envelope.ts'
import { MEDIA_TYPES } from '../../../src/identity/media-types.ts'
import { type ChainTip, NO_STATEMENT } from '../../../src/identity/statement.ts'
import { type Digest, digestOf } from '../../../src/lib/bytes.ts'
import { encodeManifest, type Manifest } from '../../../src/packaging/manifest.ts'
import { encodeWithdrawal } from '../../../src/statements/withdrawal.ts'
import type { HostileMember } from './member.ts'

export interface Signed {
  readonly id: Digest
  readonly envelope: Uint8Array
}

const now = (): number => Math.floor(Date.now() / 1000)

export class HostileAuthor {
  readonly #member: HostileMember
  readonly #model: Manifest
  /** Ids of the statements of this history, in order. */
  readonly #ids: Digest[] = []

  /** @param model an honest manifest, from which all fields are copied that a test does not change */
  constructor(member: HostileMember, model: Manifest) {
    this.#member = member
    this.#model = model
  }

  /** The end of this history. */
  get tip(): ChainTip {
    return { seq: this.#ids.length, digest: this.#ids.at(-1) ?? NO_STATEMENT }
  }

  /** The next statement: a manifest. */
  manifest(changes: Partial<Manifest> = {}): Signed {
    return this.#sign(
      'manifest',
      encodeManifest({ ...this.#model, issuedAt: now(), ...this.#next(), ...changes }),
    )
  }

  /** The next statement: a withdrawal of packages. */
  withdrawal(manifests: readonly Digest[]): Signed {
    const { consortium } = this.#member
    const withdrawal = { consortium, manifests, reason: 'owner-request' as const, issuedAt: now() }
    return this.#sign('withdrawal', encodeWithdrawal({ ...this.#next(), ...withdrawal }))
  }

  #next(): { publisher: string; seq: number; prev: Digest } {
    return {
      publisher: this.#member.peer.peerId,
      seq: this.#ids.length + 1,
      prev: this.#ids.at(-1) ?? NO_STATEMENT,
    }
  }

  #sign(type: 'manifest' | 'withdrawal', payload: Uint8Array): Signed {
    const id = digestOf(payload)
    this.#ids.push(id)
    return { id, envelope: seal(MEDIA_TYPES[type], payload, [this.#member.peer.identity]) }
  }
}
