/** Templates of the page: Preact elements written as HTML. */
import htm from 'htm'
import { h } from 'preact'

export const html = htm.bind(h)
