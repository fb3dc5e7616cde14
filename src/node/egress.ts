/**
 * The egress ledger of a node's home: opened to record what leaves the node, with heads signed by its key and an anchor
 * in its catalogue. Reading it is in egress-report.ts.
 */
import { openEnvelope, seal } from '../identity/envelope.ts'
import type { Identity, PeerIdString } from '../identity/keys.ts'
import { MEDIA_TYPES } from '../identity/media-types.ts'
import { fromUtf8, utf8 } from '../lib/bytes.ts'
import { VerificationError } from '../lib/errors.ts'
import type { Catalogue } from '../store/catalogue.ts'
import { EgressBook, type EgressJournal } from '../store/egress-book.ts'
import type { EgressAnchor } from '../store/egress-chain.ts'
import { ForeignJournal } from '../store/egress-foreign.ts'
import { EgressLedger } from '../store/egress-ledger.ts'
import type { AnchorStore } from '../store/egress-recovery.ts'
import type { EgressSigner } from '../store/egress-seals.ts'
import type { Log } from '../telemetry/log.ts'

/** Key of the anchor in the table `settings`. */
const ANCHOR_KEY = 'egress-anchor'

export interface EgressInit {
  /** Folder of the ledger. */
  readonly dir: string
  readonly identity: Identity
  /** Whether a key is an earlier key of the same node; default: none is. */
  readonly wasOwnKey?: (key: PeerIdString) => boolean
  readonly catalogue: Catalogue
  /** Unix seconds. */
  readonly now: () => number
  readonly log: Log
}

/** The ledger of a node, which records while the node runs. */
export class NodeEgress {
  readonly init: EgressInit
  readonly signer: EgressSigner
  readonly anchor: AnchorStore
  #open: { readonly ledger: EgressLedger; readonly book: EgressBook } | undefined

  constructor(init: EgressInit) {
    this.init = init
    this.signer = egressSigner(init.identity, init.wasOwnKey)
    this.anchor = egressAnchor(init.catalogue)
  }

  /** Begin to record. @throws InputError `disk-full`, `io`, `permissions`. */
  async start(): Promise<EgressBook> {
    const { dir, now, log } = this.init
    const ledger = await EgressLedger.open({ dir, signer: this.signer, anchor: this.anchor, now })
    const book = bookOf(ledger, now, log)
    this.#open = { ledger, book }
    return book
  }

  /** Undefined while the node does not run. */
  get book(): EgressBook | undefined {
    return this.#open?.book
  }

  /** The last row that was written; undefined while the node does not run. */
  get tip(): EgressAnchor | undefined {
    return this.#open?.ledger.tip
  }

  /**
   * Replace the rows of whole days before a time by a signed summary.
   * @param before Unix seconds
   * @returns number of rows removed. @throws InputError `mismatch` if one of them is broken.
   */
  async prune(before: number): Promise<number> {
    if (this.#open !== undefined) {
      await this.#open.book.persist()
      return this.#open.ledger.prune(before)
    }
    const { dir, now } = this.init
    const ledger = await EgressLedger.open({ dir, signer: this.signer, anchor: this.anchor, now })
    try {
      return await ledger.prune(before)
    } finally {
      await ledger.close()
    }
  }

  /** See `hold` of the ledger. Does nothing while the node does not run. */
  async hold(): Promise<() => void> {
    return this.#open?.ledger.hold() ?? (() => undefined)
  }

  /** Write everything, and record no more. Never rejects. */
  async close(): Promise<void> {
    await this.#open?.book.close()
  }
}

/** Record for a process that does not hold the lock of the home. */
export async function openForeignEgress({
  dir,
  now,
  log,
}: Pick<EgressInit, 'dir' | 'now' | 'log'>): Promise<EgressBook> {
  return bookOf(await ForeignJournal.open(dir, now), now, log)
}

function bookOf(journal: EgressJournal, now: () => number, log: Log): EgressBook {
  return new EgressBook({
    journal,
    now,
    onFailure: (error) =>
      log.error('rows of the egress ledger were not written; they are tried again', error),
  })
}

/** @param wasOwnKey as in `EgressInit` */
export function egressSigner(
  identity: Identity,
  wasOwnKey: (key: PeerIdString) => boolean = () => false,
): EgressSigner {
  const types = { head: MEDIA_TYPES.egressHead, summary: MEDIA_TYPES.egressSummary }
  return {
    seal: (kind, payload) => seal(types[kind], payload, [identity]),
    open: (kind, envelope) => {
      const { payload, signers } = openEnvelope(envelope, types[kind])
      const [signer = '', ...others] = signers
      if (others.length > 0 || (signer !== identity.peerId && !wasOwnKey(signer)))
        throw new VerificationError('wrong-signer', `expected the signature of ${identity.peerId}`)
      return payload
    },
  }
}

function egressAnchor(catalogue: Catalogue): AnchorStore {
  return {
    get: async () => {
      const value = await catalogue.get('settings', ANCHOR_KEY)
      return value === undefined ? undefined : parseAnchor(fromUtf8(value))
    },
    set: ({ seq, hash }) => catalogue.put('settings', ANCHOR_KEY, utf8(`${seq}:${hash}`)),
  }
}

/** As in `12:9f3a...`, with 64 hex digits; undefined for any other text. */
export function parseAnchor(text: string): EgressAnchor | undefined {
  const [, seq, hash] = /^([1-9]\d{0,15}):([a-f0-9]{64})$/.exec(text) ?? []
  return seq === undefined || hash === undefined ? undefined : { seq: Number(seq), hash }
}
