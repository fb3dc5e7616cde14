/** The state of a package in words, and how good it is. The words are those of the command `experts`. */
import { duration, percent, size } from './words.js'

const TERMINAL = ['accepted', 'refused', 'refused-by-operator', 'withdrawn', 'superseded', 'expired']

/** Whether the state may change without an event. */
export const isUnderWay = ({ state }) => !TERMINAL.includes(state) && state !== 'waiting-for-place'

/** @returns `{ kind, words }`, where kind is that of a badge */
export function stateOf({ state, progress, verdict }) {
  switch (state) {
    case 'accepted':
      return { kind: 'good', words: 'accepted' }
    case 'refused':
      return { kind: 'bad', words: 'refused' }
    case 'refused-by-operator':
      return { kind: 'warn', words: 'refused here' }
    case 'withdrawn':
      return { kind: 'plain', words: 'withdrawn' }
    case 'superseded':
      return { kind: 'plain', words: 'superseded' }
    case 'expired':
      return { kind: 'warn', words: 'expired' }
    case 'fetching':
      return { kind: 'busy', words: 'fetching' }
    case 'judging':
      return { kind: 'busy', words: 'judging' }
    case 'disk-full':
      return { kind: 'bad', words: 'disk full' }
    case 'failed':
      return { kind: progress?.needsOperator ? 'bad' : 'warn', words: 'could not be judged' }
    default:
      return { kind: verdict === undefined ? 'busy' : 'plain', words: state.replaceAll('-', ' ') }
  }
}

/** What follows from the state, in a sentence; undefined if nothing needs to be said. */
export function explain({ state, progress, verdict }) {
  if (progress?.kind === 'fetching') return `${size(progress.doneBytes)} of ${size(progress.totalBytes)}`
  if (progress?.kind === 'judging') {
    const { check, done, total, secondsLeft } = progress
    const share = total > 0 ? `, ${percent(done / total)}` : ''
    return `check "${check}"${share}${secondsLeft === undefined ? '' : `, ${duration(secondsLeft)} left`}`
  }
  if (progress?.kind === 'disk-full')
    return `needs ${size(progress.neededBytes)}, ${size(progress.freeBytes)} are free`
  if (progress?.reason !== undefined) return progress.reason
  if ((state === 'refused' || state === 'expired') && verdict?.outcome === 'refused')
    return `${verdict.code}: ${verdict.reason}`
  return undefined
}

/** How much is done of what a package waits for, 0 to 1; undefined if nobody knows. */
export function shareDone({ progress }) {
  if (progress?.kind === 'fetching' && progress.totalBytes > 0)
    return progress.doneBytes / progress.totalBytes
  if (progress?.kind === 'judging' && progress.total > 0) return progress.done / progress.total
  return undefined
}
