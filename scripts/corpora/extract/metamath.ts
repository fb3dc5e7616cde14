/**
 * Metamath databases; a document is the comment, hypotheses and assertion of a theorem or axiom, without the proof.
 * Format: the Metamath book, chapter 4.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Extractor, RawDocument } from './document.ts'

const DATABASES = ['set', 'iset', 'nf', 'ql']
/** Minimum length of a comment; shorter ones carry no content. */
const MIN_COMMENT_CHARACTERS = 25
/** Credits, and notes to the proof checker. */
const NOTES =
  /\s*\((Contributed by|Revised by|Proof shortened|Proof modification|New usage|Proof rewritten|Revised and shortened|Unnecessary|Moved)[^)]*\)/g

export const metamath: Extractor = function* (folder) {
  const root = join(folder('metamath-databases'), 'usr/share/metamath/databases')
  for (const name of DATABASES) {
    for (const { id, text } of statements(readFileSync(join(root, `${name}.mm`), 'latin1')))
      yield { id: `${name}:${id}`, text }
  }
}

/** Statements with a comment directly before them. */
export function* statements(database: string): Generator<RawDocument> {
  const tokens = database.matchAll(/\S+/g)
  const until = (end: string): string[] => {
    const found: string[] = []
    for (const [token] of tokens) {
      if (token === end) break
      found.push(token)
    }
    return found
  }
  /** Essential hypotheses of each open block. */
  const scopes: string[][] = [[]]
  let comment = ''
  let label = ''
  for (const [token] of tokens) {
    switch (token) {
      case '$(':
        comment = commentText(until('$)'))
        break
      case '${':
        scopes.push([])
        break
      case '$}':
        scopes.pop()
        break
      case '$e':
        scopes.at(-1)?.push(until('$.').join(' '))
        break
      case '$a':
      case '$p': {
        const body = until('$.').join(' ')
        const assertion = body.split(' $= ')[0] as string
        if (comment.length >= MIN_COMMENT_CHARACTERS) {
          const given = scopes.flat()
          yield {
            id: label,
            text: `${token === '$p' ? 'Theorem' : 'Axiom'} ${label}. ${comment}\n${given.join('  &  ')}${given.length > 0 ? '  =>  ' : ''}${assertion}`,
          }
        }
        comment = ''
        break
      }
      default:
        if (token.startsWith('$')) comment = ''
        label = token
    }
  }
}

/** Removes the marks of labels (~) and formulas (`) and notes. Empty for a heading. */
function commentText(words: readonly string[]): string {
  const text = words.join(' ')
  if (/^(#\*#|=-=-|-\.-\.|[-=]+$|\$[htj])/.test(text)) return ''
  return text
    .replace(NOTES, '')
    .replace(/~ (\S+)/g, '$1')
    .replace(/` ([^`]*?) `/g, '$1')
    .trim()
}
