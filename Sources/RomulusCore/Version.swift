/// Of the shared object and of the command, which are built and installed together.
public enum Version {
    public static let romulus = "0.1.0"
}
