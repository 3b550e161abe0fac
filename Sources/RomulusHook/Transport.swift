import Glibc
import RomulusHost

/// The program that carries the link for `xl` (ssh, or what `-s` names): a child that xl has started and never ends.
enum Transport {
    /// Ends it. With a backup that has lost its power, ssh would wait for TCP to give up, a quarter of an hour.
    ///
    /// By then the save helper has exited, so every child that is left is the transport.
    static func end() {
        for child in children() { kill(child, SIGTERM) }
    }

    /// The other host of this run, before there is any other child.
    static func peer() -> RunPeer {
        RunPeer(name: XlArguments.own.host, connection: children().compactMap { PeerConnection(pid: $0) }.first)
    }

    private static func children() -> [pid_t] {
        let raw = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return [] }
        let file = Descriptor(owning: raw)
        var text = [UInt8](repeating: 0, count: 4096)
        let count = read(file.raw, &text, text.count)
        guard count > 0 else { return [] }
        return text.prefix(count).split(separator: UInt8(ascii: " ")).compactMap {
            pid_t(String(decoding: $0, as: UTF8.self))
        }
    }
}
