/** Modules of the SWORD project, a Bible and a commentary, in zlib blocks with OSIS markup. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inflateSync } from 'node:zlib'
import type { Extractor, RawDocument } from './document.ts'

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

export const worldEnglishBible: Extractor = (folder) =>
  blocks(join(folder('sword-text-web'), 'usr/share/sword/modules/texts/ztext/engWEB2015eb'))

export const conciseCommentary: Extractor = (folder) =>
  blocks(join(folder('sword-comm-mhcc'), 'usr/share/sword/modules/comments/zcom/mhcc'))

/** Reads the blocks of `.bzz`; `.bzs` lists offset, compressed and uncompressed size, 32 bits little-endian each. */
export function* blocks(module: string): Generator<RawDocument> {
  for (const testament of ['ot', 'nt']) {
    if (!existsSync(join(module, `${testament}.bzs`))) continue
    const index = readFileSync(join(module, `${testament}.bzs`))
    const packed = readFileSync(join(module, `${testament}.bzz`))
    for (let at = 0; at + 12 <= index.length; at += 12) {
      const offset = index.readUInt32LE(at)
      const size = index.readUInt32LE(at + 4)
      if (size === 0) continue
      const text = inflateSync(packed.subarray(offset, offset + size)).toString('utf8')
      yield { id: `${testament}${at / 12}`, text: osisText(text) }
    }
  }
}

/** Removes notes and markup. Titles, verses and paragraphs start on new lines. */
function osisText(osis: string): string {
  return osis
    .replace(/<note[\s\S]*?<\/note>/g, '')
    .replace(/<(title|lb|l|p|div|verse|chapter|lg)\b[^>]*>/g, '\n')
    .replace(/<[^>]+>/g, '')
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replace(/&(\w+);/g, (entity, name: string) => ENTITIES[name] ?? entity)
    .replace(/\n\s*\n+/g, '\n')
}
