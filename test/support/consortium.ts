/**
 * Mints the statements of a consortium, valid or broken, from fixed keys and times: charter, rosters, manifests,
 * withdrawals, heads, invitations and membership requests. Knows nothing about nodes, networks and disks.
 */
import { type Charter, encodeCharter, publicModelDigest, sealCharter } from '../../src/consortium/charter.ts'
import { encodeInvite, type Invite } from '../../src/consortium/invite.ts'
import type { Member } from '../../src/consortium/member.ts'
import { type MembershipRequest, sealMembershipRequest } from '../../src/consortium/membership-request.ts'
import { encodeRoster, type Roster, rosterFromCharter } from '../../src/consortium/roster.ts'
import { founderRules } from '../../src/consortium/rules.ts'
import { seal } from '../../src/identity/envelope.ts'
import { createIdentity, type Identity } from '../../src/identity/keys.ts'
import { MEDIA_TYPES } from '../../src/identity/media-types.ts'
import { type Chained, type ChainTip, NO_STATEMENT } from '../../src/identity/statement.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import type { ModelShape, PublicFile } from '../../src/lib/model-shape.ts'
import {
  CHAINED_KINDS,
  type ChainedKindName,
  type ChainedStatement,
  type ChainedValues,
} from '../../src/packaging/chained-kinds.ts'
import { encodeManifest, type Manifest } from '../../src/packaging/manifest.ts'
import type { ManifestStatement, WithdrawalStatement } from '../../src/packaging/open-statement.ts'
import type { LoggedStatement } from '../../src/statements/append-checks.ts'
import { encodeHead, type Head } from '../../src/statements/head.ts'
import { encodeWithdrawal, type Withdrawal } from '../../src/statements/withdrawal.ts'
import { TINY_EXPERT, tinyManifest } from './packages.ts'
import { addMember, renewRoster, revokeMember, signable } from './signed-rosters.ts'

/** Time at which the consortium is founded and all statements are issued. Unix seconds. */
export const NOW = 1_800_000_000
const HOUR = 3_600

/** The public model of the charter. */
export const SHAPE: ModelShape = {
  vocab_size: 64,
  hidden_size: TINY_EXPERT.hidden_size,
  intermediate_size: TINY_EXPERT.intermediate_size,
  num_hidden_layers: TINY_EXPERT.layers,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  max_position_embeddings: 32,
  rope_theta: 500_000,
  rms_norm_eps_nano: 1000,
}

/** The key of a number from 0 to 255; always the same. */
export function identityOf(number: number): Identity {
  return createIdentity(new Uint8Array(32).fill(number))
}

export interface Publisher {
  readonly identity: Identity
  /** The latest statement; undefined before the first. */
  readonly tip: ChainTip | undefined
  /** The next statement, a manifest with changes. Of changed chain fields, `seq` and `prev`, no check is made. */
  manifest(changes?: Partial<Manifest>): ManifestStatement
  /** The next statement, a withdrawal of packages. */
  withdrawal(manifests: readonly Digest[], changes?: Partial<Withdrawal>): WithdrawalStatement
  /** The next statement, of another kind. */
  chained<K extends ChainedKindName>(
    kind: K,
    fields: Omit<ChainedValues[K], keyof Chained> & Partial<Chained>,
  ): ChainedStatement<K>
  /** A head that names the latest statement. */
  head(changes?: Partial<Head>): Uint8Array
  /** The same key with the same statements so far, which can sign others from here on: a fork. */
  twin(): Publisher
}

export interface PublisherOptions {
  /** Who signs; default: the publisher. Nobody is fastest, for receivers that verify no signature. */
  readonly signers?: readonly Identity[]
}

export interface TestConsortium {
  readonly founders: readonly Identity[]
  readonly charter: Charter
  readonly charterEnvelope: Uint8Array
  /** Id of the consortium. */
  readonly id: Digest
  /** The latest roster. */
  readonly roster: Roster
  /** Put an institution on the next roster. @returns its envelope. */
  admit(institution: string, identity: Identity): Uint8Array
  revoke(
    identity: Identity,
    reason: NonNullable<Member['revoked']>['reason'],
    validThroughSeq: number,
  ): Uint8Array
  renew(now: number): Uint8Array
  /** The envelope of any roster, which does not become the latest. */
  seal(roster: Roster, signers?: readonly Identity[]): Uint8Array
  publisher(identity: Identity, options?: PublisherOptions): Publisher
  /** One line, from a founder's node. */
  invitation(changes?: Partial<Invite>): string
  request(
    identity: Identity,
    changes: Pick<MembershipRequest, 'institution' | 'token'> & Partial<MembershipRequest>,
    signer?: Identity,
  ): Uint8Array
}

/** A consortium of founders that are named A, B, C, ... @param version of the charter; 2 has no threshold, only rules */
export function consortium(
  founders: readonly Identity[] = [identityOf(1)],
  changes: Partial<Charter> = {},
  version: 1 | 2 = 1,
): TestConsortium {
  const { threshold, ...rest } = charterOf(founders, changes)
  const charter: Charter = version === 2 || threshold === undefined ? rest : { ...rest, threshold }
  const charterEnvelope = sealCharter(charter, founders)
  const id = digestOf(encodeCharter(charter))
  let roster = rosterFromCharter(charter, id)
  const sealed = (value: Roster, signers: readonly Identity[] = founders): Uint8Array =>
    seal(MEDIA_TYPES.roster, encodeRoster(signable(value)), signers)
  const extend = (next: Roster): Uint8Array => {
    roster = next
    return sealed(next)
  }
  return {
    founders,
    charter,
    charterEnvelope,
    id,
    get roster() {
      return roster
    },
    admit: (institution, { peerId }) => extend(addMember(roster, institution, peerId, NOW)),
    revoke: ({ peerId }, reason, through) => extend(revokeMember(roster, peerId, reason, through, NOW)),
    renew: (now) => extend(renewRoster(roster, now)),
    seal: sealed,
    publisher: (identity, { signers = [identity] } = {}) =>
      publisherOf({ consortium: id, publicModel: charter.publicModel, identity, signers }, undefined),
    invitation: (more = {}) =>
      encodeInvite({
        consortium: id,
        name: charter.name,
        addresses: ['/ip4/127.0.0.1/tcp/4001'],
        token: 'ab'.repeat(16),
        expiresAt: NOW + HOUR,
        ...more,
      }),
    request: (identity, more, signer = identity) =>
      sealMembershipRequest({ consortium: id, peerId: identity.peerId, issuedAt: NOW, ...more }, signer),
  }
}

/** A valid charter, with changes. */
export function charterOf(founders: readonly Identity[], changes: Partial<Charter> = {}): Charter {
  const files = (['config', 'tokenizer', 'weights', 'replay'] as const).map(publicFile)
  return {
    name: 'Test consortium',
    publicModel: {
      name: 'tiny',
      digest: publicModelDigest(files),
      tokenizerDigest: publicFile('tokenizer').sha256,
      config: SHAPE,
      files,
    },
    founders: founders.map(({ peerId }, i) => ({
      institution: String.fromCharCode('A'.charCodeAt(0) + i),
      peerId,
      role: 'founder',
      joinedAt: NOW,
    })),
    rules: founderRules(changes.threshold ?? 1),
    threshold: 1,
    issuedAt: NOW,
    ...changes,
  }
}

function publicFile(role: PublicFile['role']): PublicFile {
  return {
    role,
    name: `${role}.bin`,
    size: 4,
    sha256: digestOf(utf8(role)),
    chunkSize: 1_048_576,
    chunksSha256: digestOf(utf8(`${role} chunks`)),
  }
}

interface PublisherInit {
  readonly consortium: Digest
  readonly publicModel: Charter['publicModel']
  readonly identity: Identity
  readonly signers: readonly Identity[]
}

function publisherOf(init: PublisherInit, start: ChainTip | undefined): Publisher {
  const { consortium, publicModel, identity, signers } = init
  const { peerId: publisher } = identity
  let tip = start
  const next = () => ({ publisher, seq: (tip?.seq ?? 0) + 1, prev: tip?.digest ?? NO_STATEMENT })
  const sign = (type: 'manifest' | 'withdrawal', seq: number, payload: Uint8Array) => {
    const id = digestOf(payload)
    tip = { seq, digest: id }
    return { id, envelope: seal(MEDIA_TYPES[type], payload, signers) }
  }
  return {
    identity,
    get tip() {
      return tip
    },
    manifest(changes = {}) {
      const { name, digest, tokenizerDigest } = publicModel
      const manifest = tinyManifest(publisher, {
        ...next(),
        consortium,
        publicModel: { name, digest, tokenizerDigest },
        ...changes,
      })
      return { kind: 'manifest', manifest, ...sign('manifest', manifest.seq, encodeManifest(manifest)) }
    },
    withdrawal(manifests, changes = {}) {
      const withdrawal: Withdrawal = {
        ...next(),
        consortium,
        manifests,
        reason: 'owner-request',
        issuedAt: NOW,
        ...changes,
      }
      const payload = encodeWithdrawal(withdrawal)
      return { kind: 'withdrawal', withdrawal, ...sign('withdrawal', withdrawal.seq, payload) }
    },
    chained<K extends ChainedKindName>(
      kind: K,
      fields: Omit<ChainedValues[K], keyof Chained> & Partial<Chained>,
    ) {
      const { mediaType, encode } = CHAINED_KINDS[kind]
      // The common fields and those of the kind are all fields of its value.
      const value = { ...next(), consortium, issuedAt: NOW, ...fields } as ChainedValues[K]
      const payload = encode(value)
      const id = digestOf(payload)
      tip = { seq: value.seq, digest: id }
      return { kind, value, id, envelope: seal(mediaType, payload, signers) }
    },
    head(changes = {}) {
      const issuedAt = changes.issuedAt ?? NOW
      const head: Head = {
        consortium,
        publisher,
        seq: tip?.seq ?? 0,
        last: tip?.digest ?? NO_STATEMENT,
        manifests: [],
        withdrawals: [],
        issuedAt,
        expiresAt: issuedAt + HOUR,
        ...changes,
      }
      return seal(MEDIA_TYPES.head, encodeHead(head), signers)
    },
    twin: () => publisherOf(init, tip),
  }
}

/** A statement as the log takes it. */
export function logged(statement: ManifestStatement | WithdrawalStatement): LoggedStatement {
  const { kind, id, envelope } = statement
  const link = kind === 'manifest' ? statement.manifest : statement.withdrawal
  return { kind, link, consortium: link.consortium, id, envelope }
}
