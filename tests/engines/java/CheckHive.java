import java.io.File;
import java.util.HashMap;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.metastore.conf.MetastoreConf;
import org.apache.hadoop.security.alias.CredentialProviderFactory;

/** Reads a hive-site.xml or metastore-site.xml; prints a line for each unknown name or wrong value, ends with 1 then. */
public class CheckHive {
  public static void main(String[] arguments) {
    Configuration read = new Configuration(false);
    read.addResource(new org.apache.hadoop.fs.Path(new File(arguments[0]).toURI()));
    Map<String, Object> metastore = new HashMap<>(); // name -> default, which has the type of the option
    for (MetastoreConf.ConfVars option : MetastoreConf.ConfVars.values()) {
      metastore.put(option.getVarname(), option.getDefaultVal());
      metastore.put(option.getHiveName(), option.getDefaultVal());
    }
    Configuration hadoop = new Configuration();
    int wrong = 0;
    for (Map.Entry<String, String> entry : read) {
      String name = entry.getKey();
      HiveConf.ConfVars option = HiveConf.getConfVars(name);
      String why = null;
      if (option != null) {
        why = option.isType(entry.getValue()) ? option.validate(entry.getValue()) : "not a " + option.typeString();
      } else if (metastore.containsKey(name)) {
        why = isLike(metastore.get(name), entry.getValue()) ? null : "not like " + metastore.get(name);
      } else if (hadoop.get(name) == null && !name.equals(CredentialProviderFactory.CREDENTIAL_PROVIDER_PATH)) {
        why = "unknown";
      }
      if (why != null) {
        System.out.println("unknown".equals(why) ? "unknown: " + name : "wrong: " + name + " " + why);
        wrong++;
      }
    }
    System.exit(wrong == 0 ? 0 : 1);
  }

  private static boolean isLike(Object byDefault, String value) {
    if (byDefault instanceof Boolean) {
      return value.matches("true|false");
    }
    return !(byDefault instanceof Number) || value.matches("-?[0-9.]+");
  }
}
