/**
 * The latest events of the node, numbered, for pages that follow them: a page that reconnects names the last number that
 * it has seen and gets what it missed. In memory only. Does not know what an event means.
 */
import { limit } from '../lib/limits.ts'

/** An event of the node, or a line of its log, with the name of its kind in `event`. */
export interface LoggedEvent {
  readonly event: string
  /** The event for people; absent from lines of the log, which have a message. */
  readonly words?: string
}

export interface NumberedEvent {
  /** Increases by one from event to event of one run of the node. */
  readonly number: number
  /** Unix milliseconds. */
  readonly at: number
  readonly event: LoggedEvent
}

export class EventLog {
  /**
   * Distinguishes the numbers of this run of the node from those of earlier runs, which a page may still name.
   */
  readonly run = crypto.randomUUID().slice(0, 8)
  readonly #events: NumberedEvent[] = []
  readonly #listeners = new Set<(event: NumberedEvent) => void>()
  #next = 1

  add(event: LoggedEvent): void {
    const numbered = { number: this.#next++, at: Date.now(), event }
    this.#events.push(numbered)
    if (this.#events.length > limit('dashboardEvents')) this.#events.shift()
    for (const listener of this.#listeners) listener(numbered)
  }

  /** The id of an event for server-sent events. */
  idOf({ number }: NumberedEvent): string {
    return `${this.run}-${number}`
  }

  /** The kept events after the one with this id; all kept ones if the id is absent or from another run. */
  after(id: string | undefined): readonly NumberedEvent[] {
    const [run, number] = (id ?? '').split('-')
    const last = run === this.run ? Number(number) : 0
    return this.#events.filter((event) => event.number > last)
  }

  /** Call `listener` for each new event. @returns a function that ends this. */
  follow(listener: (event: NumberedEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
