/**
 * What a running node does at its start and every hour: it ends expired consent, judges packages again that have become
 * valid, verifies the stored files once a week, and warns its operator. Does not know how a warning reads.
 */
import type { Parts } from '../pipeline/parts.ts'
import { upkeep } from '../pipeline.ts'
import type { FileVerifier } from '../store/file-verifier.ts'
import type { Log } from '../telemetry/log.ts'
import { ConsentWarnings } from './consent-warnings.ts'
import type { OnNodeEvent } from './events.ts'
import { NodeKeyWarnings } from './node-key-warnings.ts'
import { requeueValid } from './validity.ts'
import { WithdrawalReminders } from './withdrawal-reminders.ts'
import type { WithdrawalReport } from './withdrawals.ts'

/** Time between two checks for expired consent and for packages that wait for a retry, ms. */
const UPKEEP_MS = 3_600_000
/** Time between two verifications of all stored files, seconds. */
const VERIFIED_EVERY = 7 * 86_400

interface UpkeepInit {
  readonly parts: Parts
  readonly verifier: FileVerifier
  readonly withdrawals: () => Promise<WithdrawalReport[]>
  readonly onEvent: OnNodeEvent
  readonly log: Log
}

export class Upkeep {
  readonly #init: UpkeepInit
  readonly #consentWarnings = new ConsentWarnings()
  readonly #nodeKeyWarnings = new NodeKeyWarnings()
  readonly #withdrawalReminders = new WithdrawalReminders()
  #timer: ReturnType<typeof setInterval> | undefined
  /** When the latest verification of the stored files began, Unix seconds; undefined before `start`. */
  #verifiedSince: number | undefined

  constructor(init: UpkeepInit) {
    this.#init = init
  }

  /** Warn, begin to verify the stored files, and repeat every hour. */
  async start(): Promise<void> {
    const { parts, log } = this.#init
    await this.#warn()
    this.#verify()
    this.#timer = setInterval(() => {
      parts.queue.retry()
      this.run().catch((error: unknown) => log.error('expired consent was not acted on', error))
    }, UPKEEP_MS)
    this.#timer.unref()
  }

  /** What is due every hour. */
  async run(): Promise<void> {
    const { parts } = this.#init
    await upkeep(parts)
    await requeueValid(parts)
    if (this.#verifiedSince !== undefined && parts.now() - this.#verifiedSince > VERIFIED_EVERY)
      this.#verify()
    await this.#warn()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #verify(): void {
    this.#verifiedSince = this.#init.parts.now()
    void this.#init.verifier.run()
  }

  /** Report consent and a node key that end soon, and members that have not answered a withdrawal. */
  async #warn(): Promise<void> {
    const { parts, withdrawals, onEvent } = this.#init
    const { membership, accepted, now } = parts
    const end = this.#nodeKeyWarnings.due(membership, now())
    if (end !== undefined) {
      const { expiresAt, daysLeft } = end
      onEvent({ event: 'node-key-ending', expiresAt, daysLeft })
    }
    const own = accepted.manifests().filter(({ manifest }) => manifest.publisher === membership.seat)
    for (const ending of this.#consentWarnings.due(own, now()))
      onEvent({ event: 'consent-ending', ...ending })
    for (const open of this.#withdrawalReminders.due(await withdrawals(), now()))
      onEvent({ event: 'withdrawal-open', ...open })
  }
}
