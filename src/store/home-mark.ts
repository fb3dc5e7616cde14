/**
 * Notices that a home folder was copied or restored from a backup: others may then hold later statements of its node,
 * and to sign before they were received would contradict them. A file in the home is replaced at each start and each
 * signature, and the catalogue remembers its content, inode and time of change, none of which a copy can keep. Does not
 * notice that the whole disk, with its inodes, was set back: that is learned from members, who hold later statements.
 * Knows nothing about statements.
 */
import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fromUtf8, toHex, utf8 } from '../lib/bytes.ts'
import { FlexMeshError } from '../lib/errors.ts'
import { mapDiskErrors, readFileBounded, writeFileAtomic } from '../lib/files.ts'
import { Serial } from '../lib/serial.ts'
import type { Catalogue } from './catalogue.ts'

const MARK_FILE = 'mark'
const MARK_BYTES = 64
const KEY = 'home-mark'
/** Set from the discovery of a copy until a member has told what it holds. */
const COPIED_KEY = 'home-copied'

export class HomeMark {
  readonly #path: string
  readonly #catalogue: Catalogue
  readonly #changes = new Serial()
  #isCopied: boolean

  private constructor(path: string, catalogue: Catalogue, isCopied: boolean) {
    this.#path = path
    this.#catalogue = catalogue
    this.#isCopied = isCopied
  }

  /** Compare the mark with what the catalogue remembers, and replace it. @throws InputError `disk-full`, `io`. */
  static async open(root: string, catalogue: Catalogue): Promise<HomeMark> {
    const path = join(root, MARK_FILE)
    const remembered = await catalogue.get('settings', KEY)
    const isOther = remembered !== undefined && fromUtf8(remembered) !== (await currentMark(path))
    const isCopied = isOther || (await catalogue.get('settings', COPIED_KEY)) !== undefined
    // Before the mark is replaced, which would hide that the home was copied.
    if (isCopied) await catalogue.put('settings', COPIED_KEY, utf8('yes'))
    const mark = new HomeMark(path, catalogue, isCopied)
    await mark.replace()
    return mark
  }

  /** Make the next `open` take the home for a copy: its catalogue was restored from a backup. */
  static async declareCopied(catalogue: Catalogue): Promise<void> {
    await catalogue.put('settings', COPIED_KEY, utf8('yes'))
  }

  /** Whether the home is a copy, and no member has told since what it holds of this node. */
  get isCopied(): boolean {
    return this.#isCopied
  }

  /** Others hold what this home lacks of its own log, so it was set back without a trace in the mark. */
  async suspect(): Promise<void> {
    if (this.#isCopied) return
    this.#isCopied = true
    await this.#catalogue.put('settings', COPIED_KEY, utf8('yes'))
  }

  /** A member has told what it holds, so nothing of this node's log is missing any more. */
  async confirm(): Promise<void> {
    if (!this.#isCopied) return
    await this.#catalogue.delete('settings', COPIED_KEY)
    this.#isCopied = false
  }

  /** Make copies that were made before recognizable. Call this after each signature. */
  replace(): Promise<void> {
    return this.#changes.run(async () => {
      await writeFileAtomic(this.#path, toHex(randomBytes(16)))
      await this.#catalogue.put('settings', KEY, utf8(await currentMark(this.#path)))
    })
  }
}

/** Content, inode and time of change of the mark; empty if it cannot be read. */
async function currentMark(path: string): Promise<string> {
  try {
    const content = fromUtf8(await readFileBounded(path, MARK_BYTES))
    const { ino, ctimeMs } = await mapDiskErrors(path, () => stat(path))
    return `${content} ${ino} ${ctimeMs}`
  } catch (error) {
    if (error instanceof FlexMeshError) return ''
    throw error
  }
}
