/**
 * The operations that need an institution key: naming a node key, rotating, ending the node key. The node acts with the
 * institution key for a moment: it catches up its own log from the members, signs, and waits until a member has received
 * what it signed. Each step can be repeated after the process has ended at any moment. Prints nothing.
 */

import { type KeyState, keyDigest, NODE_SCOPES, type NodeScope } from '../consortium/key-history.ts'
import type { KeysStatement } from '../consortium/keys-statement.ts'
import type { Membership } from '../consortium/membership.ts'
import {
  completeRotation,
  institutionKeyId,
  loadInstitutionKey,
  openOrCreateInstitutionKey,
  prepareRotation,
} from '../identity/institution-key.ts'
import { loadIdentity, type Protection } from '../identity/key-file.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import type { Digest } from '../lib/bytes.ts'
import { ownCommand } from '../lib/command-line.ts'
import { ExchangeError, InputError } from '../lib/errors.ts'
import { mustCatchUp } from '../pipeline/before-signing.ts'
import { type NextKeys, stateKeys } from '../pipeline/state-keys.ts'
import { type HomePaths, homePaths, loadSettings } from '../store/home.ts'
import type { NodeInit } from './init.ts'
import { FlexMeshNode } from './node.ts'
import { institutionFileOf, prepareNodeKey, saveInstitutionFile, useNewNodeKey } from './node-key.ts'

export interface KeyChangeInit
  extends Pick<NodeInit, 'home' | 'engine' | 'now' | 'passphrase' | 'onEvent' | 'log'> {
  /** File of the institution key; default: the one that the home remembers. */
  readonly file?: string | undefined
  /** Passphrase of the institution key; default: that of the home. */
  readonly institutionPassphrase?: string | undefined
  /** Addresses to listen on meanwhile; default: those of the home. */
  readonly listen?: readonly string[]
  /** Time within which members must have answered, ms; default one minute. */
  readonly timeoutMs?: number
}

export type KeyPlan =
  | {
      readonly kind: 'delegate'
      /** Lifetime of the node key, seconds; default `DELEGATION_SECONDS`. */
      readonly lifetime?: number | undefined
      /** Default: those of the node key before, or all. */
      readonly scopes?: readonly NodeScope[] | undefined
      readonly validThroughSeq?: number | undefined
    }
  | { readonly kind: 'rotate'; readonly validThroughSeq?: number | undefined }
  | { readonly kind: 'revoke'; readonly validThroughSeq?: number | undefined }

export interface KeyReport {
  readonly seat: PeerIdString
  readonly institutionKey: PeerIdString
  /** Undefined after the node key was ended. */
  readonly nodeKey: PeerIdString | undefined
  /** Unix seconds. */
  readonly nodeKeyExpiresAt: number | undefined
  readonly file: string
  /** Number of the statement. */
  readonly seq: number
  /** Whether some member has received the statement; false in a consortium of one. */
  readonly isSpread: boolean
}

const DELEGATION_SECONDS = 365 * 86_400
const TIMEOUT_MS = 60_000
/** Members that must have told what they hold before a log that is empty here, or a copied one, counts as complete. */
const TELLERS = 2

/**
 * @throws InputError `usage`, `mismatch`, `not-found`, `home-in-use`, `not-acceptable`; ExchangeError `unreachable` if no
 * member answers; VerificationError for keys that may not follow. Nothing is signed then, unless the message says so.
 */
export async function changeKeys(
  init: KeyChangeInit,
  plan: KeyPlan,
  signal: AbortSignal,
): Promise<KeyReport> {
  const paths = homePaths(init.home)
  await loadSettings(paths)
  const file = init.file ?? (await institutionFileOf(paths))
  if (file === undefined) {
    throw new InputError(
      'usage',
      'give --institution-key FILE: the file that holds or will hold the institution key, best outside of the home',
    )
  }
  const keys = new KeyRing(paths, file, init)
  const node = await FlexMeshNode.open({
    ...nodeInit(init),
    command: `flexmesh key ${plan.kind}`,
    actAs: (membership, home) => keys.open(membership, home, plan),
  })
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(init.timeoutMs ?? TIMEOUT_MS)])
  let report: KeyReport
  try {
    const others = otherMembers(node.membership)
    if (others > 0) await catchUp(node, init.listen, others, deadline)
    const stated = await keys.state(node, plan)
    if (others > 0) await spread(node, stated.seq, deadline)
    report = {
      seat: node.membership.seat,
      institutionKey: stated.key,
      nodeKey: stated.node?.key,
      nodeKeyExpiresAt: stated.node?.expiresAt,
      file,
      seq: stated.seq,
      isSpread: others > 0,
    }
  } finally {
    await node.close()
  }
  await keys.settle(report)
  return report
}

/** Number of other institutions that belong to the consortium. */
function otherMembers(membership: Membership): number {
  const { seat } = membership
  const { members } = membership.roster()
  return members.filter(({ peerId, revoked }) => revoked === undefined && peerId !== seat).length
}

function nodeInit(init: KeyChangeInit): NodeInit {
  const { home, engine, now, passphrase, onEvent, log } = init
  return {
    home,
    engine,
    now,
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(onEvent === undefined ? {} : { onEvent }),
    ...(log === undefined ? {} : { log }),
  }
}

/** @throws ExchangeError `unreachable`. */
async function catchUp(
  node: FlexMeshNode,
  listen: readonly string[] | undefined,
  others: number,
  signal: AbortSignal,
): Promise<void> {
  // What the members tell may also show that a home lacks statements of its own seat.
  const { parts, watch } = node
  const tellers = parts.statements.ownSeq() === 0 || node.isCopied ? Math.min(TELLERS, others) : 1
  try {
    await node.start(listen)
    await watch.until(() => watch.tellers >= tellers && !mustCatchUp(parts), signal)
  } catch (error) {
    throw outOfReach(
      error,
      `too few members have answered, so this home may not know all that was signed for this institution; nothing was signed. Try again when more members are reachable; ${ownCommand('connect', 'ADDRESS')} tells where one is`,
    )
  }
}

/** @throws ExchangeError `unreachable`. */
async function spread(node: FlexMeshNode, seq: number, signal: AbortSignal): Promise<void> {
  try {
    await node.watch.untilSent(seq, signal)
  } catch (error) {
    throw outOfReach(
      error,
      'the change was signed, but no member has received it; run the same command again when a member is reachable, and do not start the node before',
    )
  }
}

function outOfReach(error: unknown, message: string): unknown {
  const isTimeout = error instanceof Error && error.name === 'TimeoutError'
  return isTimeout ? new ExchangeError('unreachable', message, {}, error) : error
}

/** The keys of one operation: that of the institution, those of the home, and the files in which they are. */
class KeyRing {
  readonly #paths: HomePaths
  readonly #file: string
  readonly #home: Protection
  readonly #outside: Protection
  #homeKey: Identity | undefined
  #institution: Identity | undefined
  /** Whether an attempt has rotated before it was interrupted. */
  #isRotated = false

  constructor(paths: HomePaths, file: string, { passphrase, institutionPassphrase }: KeyChangeInit) {
    this.#paths = paths
    this.#file = file
    this.#home = protectionOf(passphrase)
    this.#outside = protectionOf(institutionPassphrase ?? passphrase)
  }

  /** The key with which the node acts: one that the members accept now. */
  async open({ keys }: Membership, home: Identity, plan: KeyPlan): Promise<Identity> {
    this.#homeKey = home
    const inFile = await institutionKeyId(this.#file)
    const seat = keys.seatEverOf(home.peerId) ?? (inFile === undefined ? undefined : keys.seatEverOf(inFile))
    const ruling = seat === undefined ? undefined : keys.historyOf(seat).current().key
    if (ruling === home.peerId && plan.kind !== 'delegate') {
      throw new InputError(
        'not-acceptable',
        `the home itself holds the institution key, which no next key follows; first run ${ownCommand('key', 'delegate', '--institution-key', 'FILE')}`,
      )
    }
    if (ruling === undefined) {
      // This home holds nothing of the log of its seat yet; the members tell whether the key rules.
      this.#institution = await loadIdentity(this.#file, passphraseOf(this.#outside))
      return this.#institution
    }
    if (ruling === home.peerId) await openOrCreateInstitutionKey(this.#file, this.#outside, home)
    this.#isRotated = inFile !== undefined && inFile !== ruling && plan.kind === 'rotate'
    this.#institution = await loadInstitutionKey(this.#file, this.#outside, ruling)
    // Members accept the node key before and after a rotation, also after one that they have not received yet.
    return plan.kind === 'rotate' && keys.seatOf(home.peerId) !== undefined ? home : this.#institution
  }

  /** Sign what the plan says, unless an earlier attempt has signed it. */
  async state(
    node: FlexMeshNode,
    plan: KeyPlan,
  ): Promise<KeysStatement | (KeyState & { readonly seq: number })> {
    const institution = this.#institution as Identity
    const { keys, seat } = node.membership
    if (keys.seatOf(institution.peerId) === undefined) {
      throw new InputError(
        'mismatch',
        `${this.#file}: the key ${institution.peerId} rules no seat of this consortium any more; name the file of the ruling institution key with --institution-key`,
      )
    }
    const history = keys.historyOf(seat)
    const state = history.current()
    const latest = history.changes.at(-1)
    if (this.#isRotated && latest !== undefined) return latest
    const next = await this.#nextOf(state)
    const through = plan.validThroughSeq === undefined ? {} : { validThroughSeq: plan.validThroughSeq }
    if (plan.kind === 'revoke') return stateKeys(node.parts, { institution, ...next, ...through })
    if (plan.kind === 'delegate') {
      const identity = await this.#nodeKey(keys.seatEverOf((this.#homeKey as Identity).peerId))
      // Signed by an attempt that was interrupted.
      if (latest !== undefined && latest.node?.key === identity.peerId) return latest
      const { lifetime = DELEGATION_SECONDS, scopes = state.node?.scopes ?? NODE_SCOPES } = plan
      const delegated = { identity, scopes, expiresAt: node.now() + lifetime }
      return stateKeys(node.parts, { institution, ...next, node: delegated, ...through })
    }
    return stateKeys(node.parts, { ...(await this.#rotated(state)), ...through })
  }

  /** The digest of the next key: the committed one, or that of FILE.next, which is created if it does not exist. */
  async #nextOf({ next, key }: KeyState): Promise<{ next?: Digest }> {
    if (next !== undefined) return { next }
    const inFile = await openOrCreateInstitutionKey(this.#file, this.#outside)
    return inFile.key.peerId === key ? { next: keyDigest(inFile.next.peerId) } : {}
  }

  async #rotated(state: KeyState): Promise<NextKeys> {
    if (state.next === undefined) {
      throw new InputError(
        'not-acceptable',
        `the institution key has committed no next key; first run ${ownCommand('key', 'delegate')}`,
      )
    }
    const { key, next } = await prepareRotation(this.#file, this.#outside)
    if (keyDigest(key.peerId) !== state.next) {
      throw new InputError(
        'mismatch',
        `${this.#file}.next: expected the next key that this institution has committed, got ${key.peerId}; find the right file, or let the members restore the seat with "flexmesh propose rotate"`,
      )
    }
    const rotated = { institution: key, next: keyDigest(next.peerId) }
    if (state.node === undefined) return rotated
    const { key: nodeKey, ...rest } = state.node
    const home = this.#homeKey as Identity
    // Somebody else's node key rules, so this home gets a new one.
    const identity = home.peerId === nodeKey ? home : await this.#newKey()
    return { ...rotated, node: { identity, ...rest } }
  }

  /** The key of the home if it has never served, otherwise a new one. */
  async #nodeKey(servedSeat: PeerIdString | undefined): Promise<Identity> {
    return servedSeat === undefined ? (this.#homeKey as Identity) : this.#newKey()
  }

  #newKey(): Promise<Identity> {
    return prepareNodeKey(this.#paths, this.#home)
  }

  /** Move the files to their places, once a member knows the new keys. */
  async settle({ institutionKey, nodeKey }: KeyReport): Promise<void> {
    if (nodeKey !== undefined) await useNewNodeKey(this.#paths, nodeKey)
    await completeRotation(this.#file, institutionKey)
    await saveInstitutionFile(this.#paths, this.#file)
  }
}

function protectionOf(passphrase: string | undefined): Protection {
  return passphrase === undefined ? { inTheClear: true } : { passphrase }
}

function passphraseOf(protection: Protection): string | undefined {
  return 'passphrase' in protection ? protection.passphrase : undefined
}
