# bash completion for warren. Made by cross/manual from warren's own table of options.
# shellcheck shell=bash disable=SC2207

_warren() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} path='' skip='' word i
    # `--option=value` arrives as three words.
    if [ "$current" = = ]; then
        current=''
    elif [ "$before" = = ] && [ "$COMP_CWORD" -gt 2 ]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # The command is what is neither an option nor its value.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [ "$word" != = ] || continue
        if [ -n "$skip" ]; then
            skip=''
            continue
        fi
        case $word in
        --bootstrap | --circuit-mib | --circuit-minutes | --config | --control | --dht | --external | --identity | --identity-out | --key-type | --lan | --listen | --log-format | --max-circuits | --max-circuits-per-peer | --max-reservations | --metrics | --nick | --port | --publish | --relay | --room | --secret-key-seed | --state-dir | --stun-server | --udp-port | --web) skip=yes; continue ;;
        -*) continue ;;
    esac
    case "${path:+$path }$word" in 'run' | 'relay' | 'id' | 'nat' | 'ctl' | 'ctl status' | 'ctl peers' | 'ctl rooms' | 'ctl send' | 'ctl listen' | 'ctl join' | 'ctl leave' | 'ctl connect' | 'ctl disconnect' | 'ctl nick' | 'ctl nat' | 'ctl reload' | 'ctl quit') path="${path:+$path }$word" ;; esac
    done

    case $path:$before in
        'run:--dht') COMPREPLY=($(compgen -W 'private public off' -- "$current")); return ;;
        'run:--identity') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'run:--identity-out') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'run:--state-dir') compopt -o filenames; COMPREPLY=($(compgen -d -- "$current")); return ;;
        'run:--control') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'run:--log-format') COMPREPLY=($(compgen -W 'full timed plain journal' -- "$current")); return ;;
        'run:--config') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'relay:--dht') COMPREPLY=($(compgen -W 'private off' -- "$current")); return ;;
        'relay:--identity') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'relay:--identity-out') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'relay:--state-dir') compopt -o filenames; COMPREPLY=($(compgen -d -- "$current")); return ;;
        'relay:--control') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'relay:--log-format') COMPREPLY=($(compgen -W 'full timed plain journal' -- "$current")); return ;;
        'relay:--config') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'id:--identity') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'id:--key-type') COMPREPLY=($(compgen -W 'secp256k1 ed25519' -- "$current")); return ;;
        'id:--identity-out') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'id:--state-dir') compopt -o filenames; COMPREPLY=($(compgen -d -- "$current")); return ;;
        'ctl:--control') compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")); return ;;
        'run:--room' | 'run:--nick' | 'run:--bootstrap' | 'run:--stun-server' | 'run:--relay' | 'run:--listen' | 'run:--external' | 'run:--lan' | 'run:--secret-key-seed' | 'run:--publish' | 'run:--udp-port' | 'run:--metrics' | 'run:--web' | 'relay:--port' | 'relay:--listen' | 'relay:--bootstrap' | 'relay:--room' | 'relay:--nick' | 'relay:--external' | 'relay:--lan' | 'relay:--secret-key-seed' | 'relay:--max-reservations' | 'relay:--max-circuits' | 'relay:--max-circuits-per-peer' | 'relay:--circuit-minutes' | 'relay:--circuit-mib' | 'relay:--metrics' | 'relay:--web' | 'id:--secret-key-seed' | 'nat:--stun-server' | 'nat:--relay' | 'nat:--udp-port' | 'ctl send:--room' | 'ctl listen:--room') return ;;
    esac
    case $path in
        '') COMPREPLY=($(compgen -W 'run relay id nat ctl --help --version' -- "$current")) ;;
        'run') COMPREPLY=($(compgen -W '--help --room --nick --bootstrap --stun-server --relay --listen --external --lan --dht --no-discovery --identity --identity-out --secret-key-seed --state-dir --publish --no-stdin --json --plain --tcp-only --disable-udp --udp-port --quic-only --no-ipv6 --no-mdns --no-portmap --control --log-format --metrics --web --config --check --verbose' -- "$current")) ;;
        'relay') COMPREPLY=($(compgen -W '--help --port --listen --bootstrap --room --nick --external --lan --dht --no-discovery --identity --identity-out --secret-key-seed --state-dir --no-stdin --json --ipv6 --no-ipv6 --no-mdns --no-portmap --max-reservations --max-circuits --max-circuits-per-peer --circuit-minutes --circuit-mib --control --log-format --metrics --web --config --check --verbose' -- "$current")) ;;
        'id') COMPREPLY=($(compgen -W '--help --identity --key-type --identity-out --secret-key-seed --state-dir --json' -- "$current")) ;;
        'nat') COMPREPLY=($(compgen -W '--help --stun-server --relay --udp-port --no-portmap --json' -- "$current")) ;;
        'ctl') COMPREPLY=($(compgen -W 'status peers rooms send listen join leave connect disconnect nick nat reload quit --help --control --json' -- "$current")) ;;
        'ctl status') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl peers') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl rooms') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl send') COMPREPLY=($(compgen -W '--help --room' -- "$current")) ;;
        'ctl listen') COMPREPLY=($(compgen -W '--help --room --names' -- "$current")) ;;
        'ctl join') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl leave') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl connect') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl disconnect') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl nick') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl nat') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl reload') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
        'ctl quit') COMPREPLY=($(compgen -W '--help' -- "$current")) ;;
    esac
}

complete -F _warren warren
