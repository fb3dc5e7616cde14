/** Numbers, times and names for people. */

const DAY_MS = 86_400_000

/** As in `4.2 MB`. */
export function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const unit = Math.min(units.length - 1, bytes < 1000 ? 0 : Math.floor(Math.log10(bytes) / 3))
  return `${(bytes / 1000 ** unit).toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`
}

/** As in `2 min 5 s`. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
}

/** As in `3 h ago`. @param seconds since then */
export function ago(seconds) {
  return seconds < 90 ? 'a minute ago' : `${duration(seconds)} ago`
}

/** A day, from Unix seconds. */
export function day(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 10)
}

/** Days until a time in Unix seconds; negative after it. */
export function daysUntil(seconds) {
  return Math.floor((seconds * 1000 - Date.now()) / DAY_MS)
}

/** Time of day, from Unix milliseconds. */
export function clock(milliseconds) {
  return new Date(milliseconds).toTimeString().slice(0, 8)
}

/** The first characters of a digest or peer id. */
export function short(id) {
  return id.replace(/^sha256:/, '').slice(0, 10)
}

export function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`
}

/** `one thing`, `2 things`. */
export function count(n, one, many = `${one}s`) {
  return n === 1 ? `one ${one}` : `${n} ${many}`
}
