/**
 * Translates regular expressions of Oniguruma, in which `tokenizer.json` files are written, into those of JavaScript.
 * The two differ in white space (U+0085 and U+FEFF), in `.`, `^` and `$`, and in syntax. An expression with anything
 * that this file does not translate is refused, because a guess would change tokens silently. Source: the document RE
 * of Oniguruma 6.9, Ruby syntax. Knows nothing about tokens.
 */
import { FormatError } from '../lib/errors.ts'
import { UNASSIGNED } from './library-unicode.ts'

/** A class of those members that the library's version of Unicode knows. */
function known(members: string): string {
  return `[[${members}]--[${UNASSIGNED}]]`
}

/** Classes for the escapes of Oniguruma that JavaScript defines differently or lacks. */
const CLASSES: Readonly<Record<string, string>> = {
  s: '[\\p{White_Space}]',
  d: known('\\p{Nd}'),
  // Below U+0100, Oniguruma counts superscript digits and fractions as word characters.
  w: `[${known('\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}')}\\xb2\\xb3\\xb9\\xbc-\\xbe]`,
  h: '[0-9A-Fa-f]',
}
const BRACKETS: Readonly<Record<string, string>> = {
  alpha: known('\\p{Alphabetic}'),
  digit: known('\\p{Nd}'),
  space: '[\\p{White_Space}]',
  xdigit: '[0-9A-Fa-f]',
}
const CONTROLS: Readonly<Record<string, string>> = {
  t: '\\t',
  n: '\\n',
  r: '\\r',
  f: '\\f',
  v: '\\x0b',
  a: '\\x07',
  e: '\\x1b',
}
/** Characters outside ASCII that equal a letter when case is ignored. */
const OTHER_CASES: Readonly<Record<string, string>> = { s: '\\u017f', k: '\\u212a' }
const MAX_LENGTH = 10_000
const MAX_DEPTH = 50

/**
 * @returns an expression with the flags `gv` that matches what Oniguruma matches
 * @throws FormatError `bad-field` for an expression that is invalid or not supported.
 */
export function fromOniguruma(pattern: string): RegExp {
  const source = new Translation(pattern).run()
  try {
    return new RegExp(source, 'gv')
  } catch (cause) {
    throw unsupported(pattern, 'JavaScript cannot compile it', cause)
  }
}

function unsupported(pattern: string, why: string, cause?: unknown): FormatError {
  return new FormatError(
    'bad-field',
    `tokenizer.json: the regular expression ${JSON.stringify(pattern.slice(0, 200))} is not supported: ${why}`,
    {},
    cause,
  )
}

class Translation {
  readonly #pattern: string
  #at = 0
  /** Number of capturing groups in the output. */
  #groups = 0
  #depth = 0

  constructor(pattern: string) {
    if (pattern.length > MAX_LENGTH) throw unsupported(pattern, `it has more than ${MAX_LENGTH} characters`)
    this.#pattern = pattern
  }

  run(): string {
    const source = this.#alternatives(false)
    if (this.#at < this.#pattern.length) throw this.#refusal('an unmatched )')
    return source
  }

  #refusal(what: string): FormatError {
    return unsupported(this.#pattern, `${what} at character ${this.#at}`)
  }

  /** Skips `text` if the pattern continues with it. */
  #skip(text: string): boolean {
    if (!this.#pattern.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  /** The next character, a whole code point. */
  #next(): string {
    const code = this.#pattern.codePointAt(this.#at)
    if (code === undefined) throw this.#refusal('an unexpected end')
    const character = String.fromCodePoint(code)
    this.#at += character.length
    return character
  }

  #alternatives(ignoreCase: boolean): string {
    if (++this.#depth > MAX_DEPTH) throw this.#refusal(`groups nested deeper than ${MAX_DEPTH}`)
    let source = ''
    while (this.#at < this.#pattern.length && this.#pattern[this.#at] !== ')') {
      source += this.#skip('|') ? '|' : this.#quantified(ignoreCase)
    }
    this.#depth--
    return source
  }

  #quantified(ignoreCase: boolean): string {
    const groups = this.#groups
    let source = this.#atom(ignoreCase)
    for (;;) {
      const found = /[*+?]|\{(?:\d+(?:,\d*)?|,\d+)\}/y
      found.lastIndex = this.#at
      const quantifier = found.exec(this.#pattern)?.[0]
      if (quantifier === undefined) return source
      this.#at += quantifier.length
      source += quantifier.startsWith('{,') ? `{0${quantifier.slice(1)}` : quantifier
      if (this.#skip('?')) source += '?'
      else if (!quantifier.startsWith('{') && this.#skip('+')) source = this.#atomic(source, groups)
      else if (/[*+?{]/.test(this.#pattern[this.#at] ?? '')) source = `(?:${source})`
    }
  }

  /**
   * A group that does not give back what it matched: a lookahead captures the match, and a back reference consumes it.
   * @param groups number of capturing groups before this one; those inside would be counted after it
   */
  #atomic(source: string, groups: number): string {
    if (this.#groups !== groups) throw this.#refusal('a possessive group inside another one')
    this.#groups++
    return `(?:(?=(${source}))\\${this.#groups})`
  }

  #atom(ignoreCase: boolean): string {
    if (this.#skip('(')) return this.#group(ignoreCase)
    if (this.#skip('[')) return `[${this.#characterClass(ignoreCase)}]`
    const character = this.#next()
    if (character === '\\') return this.#escape(ignoreCase)
    if (character === '.') return '[^\\n]'
    // These match at every line in Ruby syntax.
    if (character === '^') return '(?<![^\\n])'
    if (character === '$') return '(?![^\\n])'
    if (/[*+?]/.test(character)) throw this.#refusal('a quantifier without a target')
    return literal(character, ignoreCase)
  }

  #group(ignoreCase: boolean): string {
    const groups = this.#groups
    const close = (source: string): string => {
      if (!this.#skip(')')) throw this.#refusal('a group without )')
      return source
    }
    for (const opening of ['?:', '?=', '?!', '?<=', '?<!']) {
      if (this.#skip(opening)) return close(`(${opening}${this.#alternatives(ignoreCase)})`)
    }
    if (this.#skip('?>')) return close(this.#atomic(this.#alternatives(ignoreCase), groups))
    if (this.#skip('?i:')) return close(`(?:${this.#alternatives(true)})`)
    if (this.#skip('?-i:')) return close(`(?:${this.#alternatives(false)})`)
    if (this.#skip('?')) throw this.#refusal('this kind of group')
    // Tokenizers use no captures, so a capturing group only groups.
    return close(`(?:${this.#alternatives(ignoreCase)})`)
  }

  /** An escape outside a character class. */
  #escape(ignoreCase: boolean): string {
    const character = this.#next()
    const lower = character.toLowerCase()
    if (CLASSES[lower] !== undefined) return character === lower ? CLASSES[lower] : `[^${CLASSES[lower]}]`
    if (lower === 'p') return this.#property(character === 'P')
    if (character === 'A') return '(?<![^])'
    if (character === 'z') return '(?![^])'
    return this.#character(character, ignoreCase)
  }

  /** An escape that stands for one character. */
  #character(character: string, ignoreCase: boolean): string {
    const control = CONTROLS[character]
    if (control !== undefined) return control
    const hex = /x\{([0-9A-Fa-f]{1,6})\}|x([0-7][0-9A-Fa-f])|u([0-9A-Fa-f]{4})/y
    hex.lastIndex = this.#at - 1
    const found = hex.exec(this.#pattern)
    if (found !== null) {
      this.#at += found[0].length - 1
      const code = Number.parseInt(found[1] ?? found[2] ?? found[3] ?? '', 16)
      if (code > 0x10_ffff) throw this.#refusal('a character above U+10FFFF')
      return literal(String.fromCodePoint(code), ignoreCase)
    }
    if (/[\p{L}\p{N}]/u.test(character)) throw this.#refusal(`the escape \\${character}`)
    return literal(character, ignoreCase)
  }

  /** The class of `{Name}` or `{^Name}` after `\p` or `\P`: a general category, a script or a binary property. */
  #property(isNegated: boolean): string {
    const syntax = /\{(\^?)([A-Za-z_ ]+)\}/y
    syntax.lastIndex = this.#at
    const found = syntax.exec(this.#pattern)
    if (found === null) throw this.#refusal('this property')
    this.#at += found[0].length
    const [, caret, name = ''] = found
    const members = [`\\p{${name}}`, `\\p{Script=${name}}`].find(compiles)
    if (members === undefined) throw this.#refusal(`the property ${name}`)
    // Unicode 17 moved U+0295 from the lower-case letters to the other letters.
    const moved = name === 'Ll' ? '\\u0295' : name === 'Lo' ? '--\\u0295' : ''
    const source = `[${known(members)}${moved}]`
    return isNegated === (caret === '^') ? source : `[^${source}]`
  }

  /** The members of a class, after its `[`. */
  #characterClass(ignoreCase: boolean): string {
    let source = this.#skip('^') ? '^' : ''
    let isFirst = true
    while (!this.#skip(']')) {
      if (this.#pattern.startsWith('&&', this.#at)) throw this.#refusal('an intersection of classes')
      source += this.#member(ignoreCase, isFirst)
      isFirst = false
    }
    if (isFirst) throw this.#refusal('an empty class')
    return source
  }

  #member(ignoreCase: boolean, isFirst: boolean): string {
    const bracket = /\[:([a-z]+):\]/y
    bracket.lastIndex = this.#at
    const name = bracket.exec(this.#pattern)?.[1]
    if (name !== undefined) {
      if (BRACKETS[name] === undefined) throw this.#refusal(`[:${name}:]`)
      this.#at += name.length + 4
      return BRACKETS[name]
    }
    const character = this.#next()
    if (character === '[') throw this.#refusal('a class inside another one')
    if (character === '\\') {
      const escaped = this.#next()
      const lower = escaped.toLowerCase()
      if (lower === 'p') return this.#property(escaped === 'P')
      if (CLASSES[lower] !== undefined) {
        return escaped === lower ? CLASSES[lower] : `[^${CLASSES[lower]}]`
      }
      return this.#range(this.#character(escaped, false), ignoreCase)
    }
    if (character === '-') {
      if (!isFirst && this.#pattern[this.#at] !== ']') throw this.#refusal('- between two members')
      return '\\-'
    }
    return this.#range(literal(character, false), ignoreCase)
  }

  /** A range that begins with `first`, or `first` alone. */
  #range(first: string, ignoreCase: boolean): string {
    const next = this.#pattern[this.#at + 1]
    if (this.#pattern[this.#at] === '-' && next !== ']' && next !== undefined) {
      if (ignoreCase) throw this.#refusal('a range of characters that ignores case')
      this.#at++
      const character = this.#next()
      if (character === '[') throw this.#refusal('a class inside another one')
      return `${first}-${character === '\\' ? this.#character(this.#next(), false) : literal(character, false)}`
    }
    return ignoreCase ? cases(first) : first
  }
}

function compiles(source: string): boolean {
  try {
    new RegExp(source, 'v')
    return true
  } catch {
    return false
  }
}

/** A character that matches itself, also as a member of a class. */
function literal(character: string, ignoreCase: boolean): string {
  if (ignoreCase && cases(character) !== character) return `[${cases(character)}]`
  return /[!-/:-@[-`{-~]/.test(character)
    ? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
    : character
}

/** Members of a class that match an ASCII letter in both cases; other characters as they are. */
function cases(character: string): string {
  if (!/^[A-Za-z]$/.test(character)) {
    if (/^[\p{Ll}\p{Lu}]$/u.test(character)) {
      throw new FormatError(
        'bad-field',
        `tokenizer.json: a regular expression ignores the case of ${JSON.stringify(character)}, which is supported for ASCII letters only`,
      )
    }
    return character
  }
  const lower = character.toLowerCase()
  return `${lower}${lower.toUpperCase()}${OTHER_CASES[lower] ?? ''}`
}
