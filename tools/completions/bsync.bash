# bash completion for bsync(8)                                    -*- shell-script -*-
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash

_bsync() {
    # Readline breaks words at : and =, where bsync's do not end: put together what no blank parts.
    # What stands after the cursor does not count.
    local line=${COMP_LINE:0:COMP_POINT} rest word blank index
    local -a words=()
    rest=$line
    for ((index = 0; index <= COMP_CWORD; index++)); do
        blank=${rest%%[![:blank:]]*}
        rest=${rest#"$blank"}
        word=${COMP_WORDS[index]}
        ((index < COMP_CWORD)) || word=$rest
        if [[ -n $blank ]] || ((${#words[@]} < 2)); then
            words+=("$word")
        else
            words[-1]+=$word
        fi
        rest=${rest#"$word"}
    done
    local current=${words[-1]} plain
    for ((index = 1; index < ${#words[@]}; index++)); do
        words[index]=$(_bsync_plain "${words[index]}")
    done
    plain=${words[-1]}

    local tab=$'\t' offer
    local -a offers=()
    COMPREPLY=()
    mapfile -t offers < <(_BSYNC_COMPLETE=1 "$1" "${words[@]:1}" 2>/dev/null)
    # Readline replaces only what follows the last break.
    local kept=''
    if [[ $current == *[:=]* && $COMP_WORDBREAKS == *:* ]]; then
        kept=${plain%"${plain##*[:=]}"}
    fi
    for offer in "${offers[@]}"; do
        offer=${offer%%"$tab"*}
        [[ $offer == */ ]] && compopt -o nospace
        offer=${offer#"$kept"}
        [[ $current == [\"\']* ]] || printf -v offer %q "$offer"
        COMPREPLY+=("$offer")
    done
}

# A word without its quotes; nothing in it is expanded.
_bsync_plain() {
    local text=$1 out='' quote='' char index
    for ((index = 0; index < ${#text}; index++)); do
        char=${text:index:1}
        if [[ $char == "\\" && $quote != "'" ]]; then
            index=$((index + 1))
            out+=${text:index:1}
        elif [[ -n $quote && $char == "$quote" ]]; then
            quote=''
        elif [[ -z $quote && $char == [\"\'] ]]; then
            quote=$char
        else
            out+=$char
        fi
    done
    printf %s "$out"
}

complete -o nosort -F _bsync bsync
