/**
 * The dashboard of one node: builds its parts, and makes links for people. Knows about the node only what it is given.
 */
import { digestOf, utf8 } from '../lib/bytes.ts'
import type { Answering, Api } from '../serving/app.ts'
import { loadAssets } from './assets.ts'
import { EventLog, type LoggedEvent } from './event-log.ts'
import { type CommandHandler, Jobs } from './jobs.ts'
import { mountDashboard } from './routes.ts'
import { type Role, Sessions } from './sessions.ts'

export interface DashboardInit {
  /** File of the sessions. */
  readonly sessions: string
  /** Unix seconds. */
  readonly now: () => number
  /** Receives errors of commands that are not about their request. */
  readonly onUnexpected: (command: string, error: unknown) => void
}

/** What the dashboard shows and runs; known once the node is open. */
export interface DashboardNode {
  readonly peerId: string
  readonly commands: Readonly<Record<string, CommandHandler>>
  /** Whether a command changes nothing with a request, which is not checked yet. */
  readonly isReadOnly: (command: string, request: unknown) => boolean
  /** What the page shows of the node itself. */
  readonly about: () => Readonly<Record<string, unknown>>
}

export class Dashboard {
  readonly #events = new EventLog()
  readonly #jobs: Jobs
  readonly #sessions: Sessions
  readonly #stopping = new AbortController()

  private constructor(sessions: Sessions, onUnexpected: DashboardInit['onUnexpected']) {
    this.#sessions = sessions
    this.#jobs = new Jobs(({ id, command, state, error }) => {
      const words = `${command} of a page: ${state}${error === undefined ? '' : `, ${error}`}`
      const event = { event: 'job', words, id, command, state }
      this.add(event)
    }, onUnexpected)
  }

  static async open({ sessions, now, onUnexpected }: DashboardInit): Promise<Dashboard> {
    return new Dashboard(await Sessions.open(sessions, now), onUnexpected)
  }

  /** Tell the pages what happened. */
  add(event: LoggedEvent): void {
    this.#events.add(event)
  }

  /** @returns what adds the routes to the API. */
  async routes(node: DashboardNode): Promise<(app: Api, answering: Answering) => void> {
    const assets = await loadAssets()
    const commands = Object.fromEntries(
      Object.entries(node.commands).map(([name, handler]) => [
        name,
        { handler, isReadOnly: (request: unknown) => node.isReadOnly(name, request) },
      ]),
    )
    return (app, answering) =>
      mountDashboard(app, answering, {
        assets,
        commands,
        sessions: this.#sessions,
        events: this.#events,
        jobs: this.#jobs,
        nodeId: digestOf(utf8(node.peerId)).slice('sha256:'.length, 'sha256:'.length + 12),
        about: node.about,
        stopping: this.#stopping.signal,
      })
  }

  /**
   * A link that opens the dashboard once. The secret is in the fragment, which browsers do not send to servers.
   * @param origin such as `http://127.0.0.1:8080`
   */
  link(origin: string, role: Role): string {
    return `${origin}/#enter=${this.#sessions.createLink(role)}`
  }

  /** Stops the commands that pages have started, and ends the streams of events. */
  close(): void {
    this.#stopping.abort()
    this.#jobs.stopAll()
  }
}
