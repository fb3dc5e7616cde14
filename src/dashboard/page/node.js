/**
 * The page's side of the node: runs commands, starts jobs, follows events, and asks for answers. Every call carries the
 * session's cookie and a header that pages of other origins cannot set. Stores nothing.
 */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks'

const HEADERS = { 'Content-Type': 'application/json', 'X-FlexMesh-Page': '1' }

/** An error that the node has answered with, or the network. */
export class NodeError extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

async function ask(path, method = 'GET', body = undefined) {
  const response = await fetch(path, {
    method,
    headers: HEADERS,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  }).catch(() => {
    throw new NodeError('unreachable', 'the node does not answer; is it running?')
  })
  const value = await response.json().catch(() => ({}))
  if (response.ok) return value
  const { code = String(response.status), message = response.statusText } = value.error ?? {}
  if (code === 'no_session') sessionEnded()
  throw new NodeError(code, message)
}

let sessionEnded = () => undefined
/** @param {() => void} listener called when the node does not know the session any more */
export function onSessionEnd(listener) {
  sessionEnded = listener
}

export const session = () => ask('/dashboard/session')
export const enter = (link) => ask('/dashboard/session', 'POST', { link })
export const leave = () => ask('/dashboard/session', 'DELETE')
/** Runs a command of the node and returns its result. */
export const run = async (command, request = {}) => (await runWorded(command, request)).result
/** Runs a command of the node. @returns `{ result, words }`, where words are lines for people */
export const runWorded = (command, request = {}) =>
  ask(`/dashboard/commands/${encodeURIComponent(command)}`, 'POST', request)
export const jobs = async () => (await ask('/dashboard/jobs')).jobs
/** Starts a command that goes on when the page is closed. */
export const startJob = (command, request) => ask('/dashboard/jobs', 'POST', { command, request })
export const stopJob = (id) => ask(`/dashboard/jobs/${id}`, 'DELETE')

/** Maximum number of events that the page keeps, as many as the node keeps. */
const MAX_EVENTS = 1000
const listeners = new Set()
/** The latest events, oldest first: `{ id, at, event, ... }`. */
export const events = []
let source
let isConnected = false

/** Follow the events of the node until the session ends. The browser connects again by itself and names the last one. */
export function followEvents() {
  source?.close()
  source = new EventSource('/dashboard/events')
  source.onopen = () => setConnected(true)
  source.onerror = () => setConnected(false)
  source.onmessage = ({ data, lastEventId }) => {
    const event = { id: lastEventId, ...JSON.parse(data) }
    events.push(event)
    if (events.length > MAX_EVENTS) events.shift()
    for (const listener of listeners) listener(event)
  }
}

function setConnected(connected) {
  if (connected === isConnected) return
  isConnected = connected
  for (const listener of listeners) listener({ event: 'connection' })
}

/** Whether the stream of events is open. */
export function useConnected() {
  const [connected, set] = useState(isConnected)
  useEvents(() => set(isConnected))
  return connected
}

/** Calls `listener` for each event while the component is shown. */
export function useEvents(listener) {
  const latest = useRef(listener)
  latest.current = listener
  useEffect(() => {
    const call = (event) => latest.current(event)
    listeners.add(call)
    return () => listeners.delete(call)
  }, [])
}

/** Time between two reads that events ask for, ms: one answer serves many events. */
const PAUSE_MS = 250
/** Time after which a state is read again although no event came, ms. */
const REFRESH_MS = 30_000

/**
 * The result of a command that changes nothing. It is read again after events, and every half minute.
 * @param {number} [refreshMs] how often at least
 */
export function useCommand(command, request = {}, refreshMs = REFRESH_MS) {
  return useRead(() => run(command, request), [command, JSON.stringify(request)], refreshMs)
}

/**
 * What `read` returns, read again after events.
 * @param {boolean} [followsEvents] false for what takes the node long to compute
 */
export function useRead(read, inputs = [], refreshMs = REFRESH_MS, followsEvents = true) {
  const [state, setState] = useState({ value: undefined, error: undefined })
  const timer = useRef(null)
  const isShown = useRef(true)
  const reload = useCallback(async () => {
    clearTimeout(timer.current)
    timer.current = undefined
    try {
      const value = await read()
      if (isShown.current) setState({ value, error: undefined })
    } catch (error) {
      if (isShown.current) setState((before) => ({ ...before, error }))
    }
  }, inputs)
  useEffect(() => {
    isShown.current = true
    void reload()
    const every = setInterval(() => document.hidden || reload(), refreshMs)
    return () => {
      isShown.current = false
      clearTimeout(timer.current)
      clearInterval(every)
    }
  }, [reload, refreshMs])
  useEvents(({ event }) => {
    if (followsEvents && event !== 'log') timer.current ??= setTimeout(reload, PAUSE_MS)
  })
  return { ...state, reload }
}

/**
 * Streams an answer of the node.
 * @param {'chat/completions'|'completions'} path
 * @param {object} request in OpenAI's shape
 * @param {(chunk: object) => void} onChunk
 */
export async function streamAnswer(path, request, onChunk, signal) {
  const response = await fetch(`/dashboard/v1/${path}`, {
    method: 'POST',
    headers: HEADERS,
    body: JSON.stringify({ model: 'flexmesh', ...request, stream: true, token_shares: true }),
    signal,
  })
  if (!response.ok) {
    const { error } = await response.json()
    throw new NodeError(error.code, error.message)
  }
  let rest = ''
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const blocks = (rest + value).split('\n\n')
    rest = blocks.pop()
    for (const block of blocks) {
      if (!block.startsWith('data: ') || block === 'data: [DONE]') continue
      const chunk = JSON.parse(block.slice('data: '.length))
      if (chunk.error) throw new NodeError(chunk.error.code, chunk.error.message)
      onChunk(chunk)
    }
  }
}
