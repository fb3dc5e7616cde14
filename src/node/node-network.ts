/**
 * The network of a node: its exchange with the members and the requests for cosignatures, from `start` to `stop`. A node
 * that is open without a network sends nothing, and nobody is connected to it. Does not know what the messages mean.
 */

import { Exchange } from '../exchange/exchange.ts'
import { ownCommand } from '../lib/command-line.ts'
import { ExchangeError } from '../lib/errors.ts'
import type { FileRef } from '../lib/file-ref.ts'
import { parseAddress } from '../network/address.ts'
import type { Encrypter } from '../network/transport.ts'
import type { FetchOptions, Parts } from '../pipeline/parts.ts'
import type { EgressBook } from '../store/egress-book.ts'
import type { Settings } from '../store/home.ts'
import type { Log } from '../telemetry/log.ts'
import { rememberedAddresses } from './address-book.ts'
import { Cosigning } from './cosigning.ts'
import { exchangeHandlers } from './exchange-handlers.ts'
import type { LastSeen } from './last-seen.ts'
import type { SyncWatch } from './sync-watch.ts'

interface NetworkInit {
  readonly parts: Parts
  readonly settings: Settings
  /** Multiaddrs. */
  readonly listen: readonly string[]
  readonly lastSeen: LastSeen
  readonly watch: SyncWatch
  readonly egress: EgressBook
  /** See `NodeInit`. */
  readonly encrypter: Encrypter | undefined
  readonly log: Log
}

export class NodeNetwork {
  #exchange: Exchange | undefined
  #cosigning: Cosigning | undefined

  /** @throws InputError `port-in-use`. */
  async start({
    parts,
    settings,
    listen,
    lastSeen,
    watch,
    egress,
    encrypter,
    log,
  }: NetworkInit): Promise<void> {
    const bootstrap = settings.bootstrap.filter((address) => parseAddress(address) !== undefined)
    if (bootstrap.length < settings.bootstrap.length)
      log.warn('settings.json: addresses under "bootstrap" that cannot be read are ignored')
    const exchange = new Exchange(
      { blobs: parts.blobs, handlers: exchangeHandlers(parts, lastSeen, watch, log) },
      {
        identity: parts.identity,
        consortium: parts.membership.consortium,
        listen,
        bootstrap,
        mdns: settings.mdns,
        remembered: await rememberedAddresses(parts.catalogue, log),
        clock: () => performance.now(),
        egress,
        log,
        ...(encrypter === undefined ? {} : { encrypter }),
      },
    )
    await exchange.start()
    this.#exchange = exchange
    this.#cosigning = new Cosigning({ parts, exchange, log: log.part('cosigning') })
    this.#cosigning.request()
  }

  /** Close all connections. Cosignatures that were asked for may still be in work: see `settled`. */
  async stop(): Promise<void> {
    this.#cosigning?.stop()
    await this.#exchange?.stop()
  }

  /** Resolves after `stop` when no cosignature is asked for any more. */
  async settled(): Promise<void> {
    await this.#cosigning?.settled()
  }

  /** Whether `start` has completed. */
  get isRunning(): boolean {
    return this.#exchange !== undefined
  }

  /** Multiaddrs at which others reach this node; empty before `start`. */
  addresses(): string[] {
    return this.#exchange?.addresses() ?? []
  }

  /** Peer ids of the connected members. */
  connectedMembers(): string[] {
    return this.#exchange?.connectedMembers() ?? []
  }

  /** All open connections. */
  links(): ReturnType<Exchange['links']> {
    return this.#exchange?.links() ?? []
  }

  /** See `connect` of the exchange; undefined before `start`. */
  get dial(): Exchange['connect'] | undefined {
    return this.#exchange?.connect.bind(this.#exchange)
  }

  /** See `Parts`. @throws ExchangeError `unreachable` before `start`. */
  async fetch(file: FileRef, { signal, onProgress }: FetchOptions): Promise<void> {
    if (this.#exchange === undefined)
      throw new ExchangeError('unreachable', `the node does not run; ${ownCommand('start')} fetches packages`)
    await this.#exchange.fetch(file, {
      signal,
      onProgress: ({ doneChunks }) => onProgress(Math.min(doneChunks * file.chunkSize, file.size)),
    })
  }

  /** See `Parts`. */
  async sendHead(head: Uint8Array): Promise<void> {
    await this.#exchange?.announce(head)
  }

  /** See `Parts`. */
  requestCosignatures(): void {
    this.#cosigning?.request()
  }

  /** See `spread` of cosigning.ts. */
  spreadCosignatures(): void {
    this.#cosigning?.spread()
  }

  /** See `Parts`. */
  async disconnect(peer: string): Promise<void> {
    await this.#exchange?.disconnect(peer)
  }
}
