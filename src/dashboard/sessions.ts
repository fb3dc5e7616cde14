/**
 * Who may use the dashboard: one-time links, and the sessions that they open. A link is spent by its first use; a session
 * is a cookie. Only digests of both are kept, those of sessions also on disk, so that a restart of the node ends none.
 * Knows nothing about HTTP.
 */
import { randomBytes } from 'node:crypto'
import { fromUtf8, sha256, toHex, utf8 } from '../lib/bytes.ts'
import { FlexMeshError, InputError } from '../lib/errors.ts'
import { Fields } from '../lib/fields.ts'
import { pathExists, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { limit } from '../lib/limits.ts'
import { Serial } from '../lib/serial.ts'

/** An operator may run every command of the dashboard; a reader only those that change nothing. */
export const ROLES = ['operator', 'reader'] as const
export type Role = (typeof ROLES)[number]

export interface Session {
  readonly role: Role
  /** Unix seconds. */
  readonly expiresAt: number
}

const SECRET_BYTES = 32
const HASH = /^[0-9a-f]{64}$/
const MAX_FILE_BYTES = 64 * 1024

export class Sessions {
  readonly #path: string
  readonly #now: () => number
  readonly #links = new Map<string, Session>()
  readonly #sessions: Map<string, Session>
  readonly #writes = new Serial()

  private constructor(path: string, now: () => number, sessions: Map<string, Session>) {
    this.#path = path
    this.#now = now
    this.#sessions = sessions
  }

  /**
   * @param path file of the sessions; one that cannot be read is replaced, and people need a new link
   * @param now Unix seconds
   */
  static async open(path: string, now: () => number): Promise<Sessions> {
    return new Sessions(path, now, await readSessions(path))
  }

  /** The secret of a new link. The oldest link is dropped if too many are open. */
  createLink(role: Role): string {
    dropExpired(this.#links, this.#now())
    dropOldest(this.#links, limit('dashboardSessions') - 1)
    const secret = newSecret()
    this.#links.set(hashOf(secret), { role, expiresAt: this.#now() + limit('dashboardLinkLifetime') })
    return secret
  }

  /**
   * Spend a link.
   * @returns the secret of the new session, and the session
   * @throws InputError `not-found` for a link that is unknown, spent or expired.
   */
  async enter(link: string): Promise<{ secret: string; session: Session }> {
    const now = this.#now()
    const hash = hashOf(link)
    const opened = this.#links.get(hash)
    this.#links.delete(hash)
    if (opened === undefined || opened.expiresAt < now) {
      throw new InputError(
        'not-found',
        'this link was used already or has expired; "flexmesh dashboard" prints a new one',
      )
    }
    dropExpired(this.#sessions, now)
    dropOldest(this.#sessions, limit('dashboardSessions') - 1)
    const secret = newSecret()
    const session = { role: opened.role, expiresAt: now + limit('dashboardSessionLifetime') }
    this.#sessions.set(hashOf(secret), session)
    await this.#save()
    return { secret, session }
  }

  /** The session with this secret; undefined if it is unknown or has expired. */
  find(secret: string): Session | undefined {
    const session = this.#sessions.get(hashOf(secret))
    return session === undefined || session.expiresAt < this.#now() ? undefined : session
  }

  async end(secret: string): Promise<void> {
    if (this.#sessions.delete(hashOf(secret))) await this.#save()
  }

  #save(): Promise<void> {
    return this.#writes.run(() =>
      writeFileAtomic(
        this.#path,
        JSON.stringify([...this.#sessions].map(([hash, { role, expiresAt }]) => ({ hash, role, expiresAt }))),
      ),
    )
  }
}

async function readSessions(path: string): Promise<Map<string, Session>> {
  if (!(await pathExists(path))) return new Map()
  try {
    const list = new Fields(
      { sessions: JSON.parse(fromUtf8(await readFileBounded(path, MAX_FILE_BYTES))) },
      'sessions',
    ).list('sessions', limit('dashboardSessions'), readSession)
    return new Map(list)
  } catch (error) {
    if (error instanceof FlexMeshError || error instanceof SyntaxError) return new Map()
    throw error
  }
}

/** @throws FormatError `bad-field`. */
function readSession(value: unknown, title: string): [string, Session] {
  const fields = new Fields(value, title)
  const hash = fields.text('hash', 64, HASH)
  const session = { role: fields.literal('role', ...ROLES), expiresAt: fields.uint('expiresAt') }
  fields.end()
  return [hash, session]
}

function newSecret(): string {
  return toHex(randomBytes(SECRET_BYTES))
}

/** Secrets are looked up by their digest, so the time of a lookup tells nothing about a secret. */
function hashOf(secret: string): string {
  return toHex(sha256(utf8(secret)))
}

function dropExpired(sessions: Map<string, Session>, now: number): void {
  for (const [hash, { expiresAt }] of sessions) if (expiresAt < now) sessions.delete(hash)
}

/** Drop the oldest entries until at most `most` are left. */
function dropOldest(sessions: Map<string, Session>, most: number): void {
  for (const hash of sessions.keys()) {
    if (sessions.size <= most) return
    sessions.delete(hash)
  }
}
