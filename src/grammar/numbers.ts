/**
 * Numbers of JSON between bounds, as pieces of a program. Numbers are written with at most 15 significant digits, so
 * reading them as 64-bit floats cannot move them across a bound. Does not know schemas.
 */
import type { Piece, ProgramBuilder } from './program.ts'

/** Bounds of a number. */
export interface Bounds {
  readonly min: number
  readonly max: number
  /** Whether the bound itself is left out. */
  readonly aboveMin: boolean
  readonly belowMax: boolean
}

export const UNBOUNDED: Bounds = {
  min: Number.NEGATIVE_INFINITY,
  max: Number.POSITIVE_INFINITY,
  aboveMin: false,
  belowMax: false,
}

/** Significant digits that a 64-bit float keeps. */
const DIGITS = 15
const MOST_INTEGER = 10 ** DIGITS - 1
/** Decimals of a number with bounds. */
const MOST_DECIMALS = 6
const MOST_BOUNDED_INTEGER = 10 ** (DIGITS - MOST_DECIMALS) - 1

/** Whether a bound can be compared exactly: it has few enough digits. */
export function isExactBound(bound: number): boolean {
  if (!Number.isFinite(bound)) return true
  return Math.abs(bound) <= MOST_BOUNDED_INTEGER && Number(bound.toFixed(MOST_DECIMALS)) === bound
}

export function isUnbounded({ min, max }: Bounds): boolean {
  return min === Number.NEGATIVE_INFINITY && max === Number.POSITIVE_INFINITY
}

/** Any number, also with an exponent. */
export function anyNumber(b: ProgramBuilder): Piece {
  const digit = b.oneOf([0x30, 0x39])
  const fraction = b.sequence(b.text('.'), b.repeat(digit, 1, DIGITS))
  const sign = b.optional(b.oneOf([0x2b, 0x2b], [0x2d, 0x2d]))
  const exponent = b.sequence(b.oneOf([0x45, 0x45], [0x65, 0x65]), sign, b.repeat(digit, 1, 2))
  return b.sequence(
    b.optional(b.text('-')),
    b.either(b.text('0'), b.sequence(b.oneOf([0x31, 0x39]), b.repeat(digit, 0, DIGITS - 1))),
    b.optional(fraction),
    b.optional(exponent),
  )
}

/** Whole numbers within bounds; undefined if there are none. */
export function integers(b: ProgramBuilder, bounds: Bounds): Piece | undefined {
  const min = Math.max(-MOST_INTEGER, bounds.aboveMin ? Math.floor(bounds.min) + 1 : Math.ceil(bounds.min))
  const max = Math.min(MOST_INTEGER, bounds.belowMax ? Math.ceil(bounds.max) - 1 : Math.floor(bounds.max))
  const pieces: Piece[] = []
  if (min <= -1 && min <= max) pieces.push(b.sequence(b.text('-'), wholeBetween(b, Math.max(1, -max), -min)))
  if (max >= 0 && min <= max) pieces.push(wholeBetween(b, Math.max(0, min), max))
  return pieces.length === 0 ? undefined : b.either(...pieces)
}

/** Whole numbers from `low` to `high`, both at least 0, without leading zeros. */
function wholeBetween(b: ProgramBuilder, low: number, high: number): Piece {
  const pieces: Piece[] = []
  for (let start = low; start <= high; ) {
    const length = String(start).length
    const end = Math.min(high, 10 ** length - 1)
    pieces.push(sameLength(b, String(start), String(end)))
    start = end + 1
  }
  return b.either(...pieces)
}

/** Digits between two texts of one length. */
function sameLength(b: ProgramBuilder, low: string, high: string): Piece {
  const [first, last] = [low.charCodeAt(0), high.charCodeAt(0)]
  const rest = low.length - 1
  const digits = b.repeat(b.oneOf([0x30, 0x39]), rest, rest)
  if (low === '0'.repeat(low.length) && high === '9'.repeat(high.length))
    return b.sequence(b.oneOf([0x30, 0x39]), digits)
  if (rest === 0) return b.oneOf([first, last])
  if (first === last) return b.sequence(b.oneOf([first, first]), sameLength(b, low.slice(1), high.slice(1)))
  const pieces = [
    b.sequence(b.oneOf([first, first]), sameLength(b, low.slice(1), '9'.repeat(rest))),
    b.sequence(b.oneOf([last, last]), sameLength(b, '0'.repeat(rest), high.slice(1))),
  ]
  if (last - first > 1) pieces.push(b.sequence(b.oneOf([first + 1, last - 1]), digits))
  return b.either(...pieces)
}

/** Digits after the point between two texts of one length. Zeros at the end may be left out. */
function decimalsBetween(b: ProgramBuilder, low: string, high: string): Piece {
  const [first, last] = [low.charCodeAt(0), high.charCodeAt(0)]
  const rest = low.length - 1
  if (rest === 0) return b.oneOf([first, last])
  const mayEnd = (piece: Piece, isAllowed: boolean): Piece => (isAllowed ? b.optional(piece) : piece)
  const [lowRest, highRest] = [low.slice(1), high.slice(1)]
  const isZero = Number(lowRest) === 0
  if (first === last)
    return b.sequence(b.oneOf([first, first]), mayEnd(decimalsBetween(b, lowRest, highRest), isZero))
  const pieces = [
    b.sequence(b.oneOf([first, first]), mayEnd(decimalsBetween(b, lowRest, '9'.repeat(rest)), isZero)),
    b.sequence(b.oneOf([last, last]), b.optional(decimalsBetween(b, '0'.repeat(rest), highRest))),
  ]
  if (last - first > 1)
    pieces.push(b.sequence(b.oneOf([first + 1, last - 1]), b.repeat(b.oneOf([0x30, 0x39]), 0, rest)))
  return b.either(...pieces)
}

/** Numbers within bounds, without an exponent and with few decimals; undefined if there are none. */
export function decimals(b: ProgramBuilder, bounds: Bounds): Piece | undefined {
  const { min, max, aboveMin, belowMax } = bounds
  const pieces = [
    // -0 would be read as 0.
    magnitudes(b, {
      min: max >= 0 ? 0 : -max,
      aboveMin: max >= 0 || belowMax,
      max: -min,
      belowMax: aboveMin,
    }),
    magnitudes(b, { min: Math.max(0, min), aboveMin: min >= 0 && aboveMin, max, belowMax }),
  ]
  const [negative, positive] = pieces
  const signed = negative && b.sequence(b.text('-'), negative)
  const all = [signed, positive].filter((piece) => piece !== undefined)
  return all.length === 0 ? undefined : b.either(...all)
}

/** Numbers of at least 0; undefined if there are none. */
function magnitudes(b: ProgramBuilder, { min, max, aboveMin, belowMax }: Bounds): Piece | undefined {
  if (max < min || (max === min && (aboveMin || belowMax))) return undefined
  const [low, lowDecimals] = parts(min)
  const [high, highDecimals] = parts(Math.min(max, MOST_BOUNDED_INTEGER))
  const above = { decimals: lowDecimals, isLeftOut: aboveMin }
  const below = { decimals: highDecimals, isLeftOut: belowMax && max <= MOST_BOUNDED_INTEGER }
  const pieces: (Piece | undefined)[] = []
  const whole = (value: number, fraction: Piece | undefined): void => {
    if (fraction !== undefined) pieces.push(b.sequence(b.text(String(value)), fraction))
  }
  if (low === high) whole(low, fractions(b, above, below))
  else {
    whole(low, fractions(b, above, undefined))
    whole(high, fractions(b, undefined, below))
    const free = fractions(b, undefined, undefined)
    if (high - low > 1 && free !== undefined)
      pieces.push(b.sequence(wholeBetween(b, low + 1, high - 1), free))
  }
  const found = pieces.filter((piece) => piece !== undefined)
  return found.length === 0 ? undefined : b.either(...found)
}

/** The whole part, and exactly `MOST_DECIMALS` decimals. */
function parts(value: number): [whole: number, decimals: string] {
  const [whole = '0', decimals = ''] = value.toFixed(MOST_DECIMALS).split('.')
  return [Number(whole), decimals]
}

interface Bound {
  readonly decimals: string
  readonly isLeftOut: boolean
}

/** What follows the whole part: nothing, or a point and decimals between the bounds; undefined if nothing fits. */
function fractions(b: ProgramBuilder, above: Bound | undefined, below: Bound | undefined): Piece | undefined {
  const low = Number(above?.decimals ?? 0) + (above?.isLeftOut === true ? 1 : 0)
  const all = 10 ** MOST_DECIMALS - 1
  const high = below === undefined ? all : Number(below.decimals) - (below.isLeftOut ? 1 : 0)
  if (low > high) return undefined
  const none: Piece = (then) => then
  const point = b.text('.')
  if (low === 0 && high === all) {
    return b.optional(b.sequence(point, b.repeat(b.oneOf([0x30, 0x39]), 1, MOST_DECIMALS)))
  }
  const digits = (value: number): string => String(value).padStart(MOST_DECIMALS, '0')
  const some = b.sequence(point, decimalsBetween(b, digits(low), digits(high)))
  return low === 0 ? b.either(none, some) : some
}
